//! The maps of each address family.

use portguard_common::address::{V4, V6, mapped};
use portguard_common::lookup::{DirectTable, Indexed};
use portguard_common::source_table::{Bucket, Key, Record};

use crate::denied::Packet;
use crate::hook::Hook;
use crate::list;
use crate::maps::{
    BUCKETS_V4, BUCKETS_V6, Cells, FRONTS_V4, FRONTS_V6, INDEXES_V4, INDEXES_V6, Indexes, LISTS_V4, LISTS_V6,
    Lists, RECORDS_V4, RECORDS_V6,
};

/// An address family of IP.
pub(crate) trait Family: Key + Indexed + 'static {
    /// The length of an address in bits.
    const BITS: u32;
    /// The version of IP, 4 or 6.
    const VERSION: u8;
    /// The address in the form of [`portguard_common::drop_log::Event::source`].
    fn words(self) -> [u64; 2];
    /// The address as one of IPv6.
    fn mapped(self) -> V6;
    /// Whether the list in force covers the address, by a call of a BPF global function.
    fn is_on_list(self) -> bool;
    /// Counts and logs a denied packet from this source, by a call of a BPF global function. Returns the action.
    fn denied(self, hook: impl Hook, packet: Packet) -> u32;
    /// The tries of the lists.
    fn lists() -> &'static Lists<Self>;
    /// The direct tables of the indexes.
    fn direct_tables() -> &'static Cells<DirectTable<Self>>;
    /// The blocks of the indexes that do not fit into their direct tables.
    fn indexes() -> &'static Indexes<Self>;
    /// The buckets of the source table.
    fn buckets() -> &'static Cells<Bucket<Self>>;
    /// The records of the source table, for established sources.
    fn records() -> &'static Cells<Record>;
}

impl Family for V4 {
    const BITS: u32 = 32;
    const VERSION: u8 = 4;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u64::from(self), 0]
    }

    #[inline(always)]
    fn mapped(self) -> V6 {
        mapped(self)
    }

    #[inline(always)]
    fn is_on_list(self) -> bool {
        list::portguard_covers_v4(self) != 0
    }

    #[inline(always)]
    fn denied(self, hook: impl Hook, packet: Packet) -> u32 {
        hook.denied_v4(self, packet.pack())
    }

    #[inline(always)]
    fn lists() -> &'static Lists<Self> {
        &LISTS_V4
    }

    #[inline(always)]
    fn direct_tables() -> &'static Cells<DirectTable<Self>> {
        &FRONTS_V4
    }

    #[inline(always)]
    fn indexes() -> &'static Indexes<Self> {
        &INDEXES_V4
    }

    #[inline(always)]
    fn buckets() -> &'static Cells<Bucket<Self>> {
        &BUCKETS_V4
    }

    #[inline(always)]
    fn records() -> &'static Cells<Record> {
        &RECORDS_V4
    }
}

impl Family for V6 {
    const BITS: u32 = 128;
    const VERSION: u8 = 6;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        self
    }

    #[inline(always)]
    fn mapped(self) -> V6 {
        self
    }

    #[inline(always)]
    fn is_on_list(self) -> bool {
        let [first, second] = self;
        list::portguard_covers_v6(first, second) != 0
    }

    #[inline(always)]
    fn denied(self, hook: impl Hook, packet: Packet) -> u32 {
        hook.denied_v6(self, packet.pack())
    }

    #[inline(always)]
    fn lists() -> &'static Lists<Self> {
        &LISTS_V6
    }

    #[inline(always)]
    fn direct_tables() -> &'static Cells<DirectTable<Self>> {
        &FRONTS_V6
    }

    #[inline(always)]
    fn indexes() -> &'static Indexes<Self> {
        &INDEXES_V6
    }

    #[inline(always)]
    fn buckets() -> &'static Cells<Bucket<Self>> {
        &BUCKETS_V6
    }

    #[inline(always)]
    fn records() -> &'static Cells<Record> {
        &RECORDS_V6
    }
}
