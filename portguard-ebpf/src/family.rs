//! Which maps belong to which kind of address.

use portguard_common::sources::{Bucket, Record};
use portguard_common::transport::Address;

use crate::maps::{BUCKETS_V4, BUCKETS_V6, Cells, LISTS_V4, LISTS_V6, Lists, RECORDS_V4, RECORDS_V6};

/// An address family of IP.
pub(crate) trait Family: Address + 'static {
    /// The length of an address in bits.
    const BITS: u32;
    /// The allowlists.
    fn lists() -> &'static Lists<Self>;
    /// The source table.
    fn buckets() -> &'static Cells<Bucket<Self::Key>>;
    /// What the source table knows about established sources.
    fn records() -> &'static Cells<Record>;
}

impl Family for [u8; 4] {
    const BITS: u32 = 32;

    #[inline(always)]
    fn lists() -> &'static Lists<Self> {
        &LISTS_V4
    }

    #[inline(always)]
    fn buckets() -> &'static Cells<Bucket<Self::Key>> {
        &BUCKETS_V4
    }

    #[inline(always)]
    fn records() -> &'static Cells<Record> {
        &RECORDS_V4
    }
}

impl Family for [u8; 16] {
    const BITS: u32 = 128;

    #[inline(always)]
    fn lists() -> &'static Lists<Self> {
        &LISTS_V6
    }

    #[inline(always)]
    fn buckets() -> &'static Cells<Bucket<Self::Key>> {
        &BUCKETS_V6
    }

    #[inline(always)]
    fn records() -> &'static Cells<Record> {
        &RECORDS_V6
    }
}
