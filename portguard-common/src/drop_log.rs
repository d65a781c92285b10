//! The drop log: a sample of the denied packets. Its rate is limited to the one that the loader has set, also in a flood.
//!
//! All CPUs share one [`Budget`]. If a packet finds nothing left of it, or finds the ring full,
//! [`crate::totals::Totals::not_logged`] counts it.

use crate::conditions::{Budget, HIGHEST_RATE};
use crate::layout::Shared;

/// How many entries were logged: the one element of the map [`crate::names::LOG_BUDGET`]. It has a cache line of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct LogBudget {
    /// All CPUs take from it, by [`crate::conditions::take`].
    pub budget: Budget,
    /// Zero.
    pub reserved: [u64; 5],
}

// SAFETY: integers that fill the 64 bytes (asserted below); zeroes are a budget of which nothing was taken.
unsafe impl Shared for LogBudget {}

const _: () = assert!(size_of::<LogBudget>() == 64);

/// The log rate, as it is in the policy of a guard. The first field is a constant of the loaded program, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// The most entries in a second, over all CPUs; 0 if the log is off. In ABI 4 to 8, the least time between two entries of one CPU, in
    /// nanoseconds.
    pub entries: u64,
    /// Zero. In ABI 4 to 8, the time in which a CPU gathers as many entries as it may log at once.
    pub reserved: u64,
}

// SAFETY: two integers of the same size; zeroes are the rate of no log.
unsafe impl Shared for Rate {}

impl Rate {
    /// The rate with which the program logs nothing.
    pub const OFF: Self = Self { entries: 0, reserved: 0 };

    /// So many entries a second, of all CPUs together.
    pub fn per_second(entries: u32) -> Self {
        Self { entries: entries.min(HIGHEST_RATE).into(), reserved: 0 }
    }

    /// The number of entries, as the program has it.
    pub fn in_program(self) -> u32 {
        u32::try_from(self.entries).unwrap_or(u32::MAX).min(HIGHEST_RATE)
    }
}

/// A denied packet in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When the program logged it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Its source: an IPv6 address ([`crate::address::V6`]), or an IPv4 address ([`crate::address::V4`]) and a zero.
    pub source: [u64; 2],
    /// The index of the interface that received it.
    pub ifindex: u32,
    /// Its length in bytes, from the IP header on.
    pub bytes: u32,
    /// Its source port, in network byte order.
    pub port_be: [u8; 2],
    /// 4 or 6.
    pub ip_version: u8,
    /// The index of its [`crate::rpc::Request`].
    pub request: u8,
    /// 1 if the guard dropped the packet, 0 if it passed in audit mode.
    pub dropped: u8,
    /// The number of the [`crate::reason::Denial`].
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

// SAFETY: integers and byte arrays, without padding (asserted below); zeroes are a value.
unsafe impl Shared for Event {}

const _: () = assert!(size_of::<Event>() == 40);
