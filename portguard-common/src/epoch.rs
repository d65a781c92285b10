//! When a set of counters began, and what a reader needs to interpret it. Only the loader reads and writes this record.
//! It is pinned together with the counters, and a reset replaces both.

use crate::layout::Shared;
use crate::source_table::Seed;

/// The only value of the epoch map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Epoch {
    /// When the counters began at zero, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub since: u64,
    /// A reading of `jiffies_64` from that time.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds, read at the same moment as `jiffies`.
    pub monotonic: u64,
    /// The seed of the hash that distributes the sources over the tables. Each program that counts into these maps must
    /// use this seed.
    pub seed: Seed,
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are an empty epoch.
unsafe impl Shared for Epoch {}

const _: () = assert!(size_of::<Epoch>() == 64);
