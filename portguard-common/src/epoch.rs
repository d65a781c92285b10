//! Since when a set of counters counts, and what it takes to read them. Only the loader reads and writes it; it is
//! pinned with the counters, and replaced with them when they are reset.

use crate::layout::Shared;
use crate::sources::Seed;

/// The one value of the epoch map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Epoch {
    /// When the counters were at zero, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub since: u64,
    /// Jiffies (`jiffies_64`) at some moment of that time ...
    pub jiffies: u64,
    /// ... and nanoseconds of `CLOCK_MONOTONIC` at the same moment.
    pub monotonic: u64,
    /// Of the hash that has distributed the sources over the tables. A program that goes on with these counters must
    /// go on with this seed.
    pub seed: Seed,
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are an empty epoch.
unsafe impl Shared for Epoch {}

const _: () = assert!(size_of::<Epoch>() == 64);
