//! The counters that are not about a source: one [`Totals`] for each CPU, which only that CPU writes.

use crate::layout::Shared;
use crate::reason::{ByFault, DropReason, Fault};
use crate::rpc::{REQUESTS, Requests};

/// Packets, and their bytes from the IP header on (link headers do not count, padding does). If a packet in several
/// buffers declares a length that ends in the first buffer, the bytes of the other buffers are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Number of packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

// SAFETY: two integers of the same size; zeroes are the empty count.
unsafe impl Shared for Count {}

impl Count {
    /// One packet.
    #[inline(always)]
    pub const fn packet(bytes: u64) -> Self {
        Self { packets: 1, bytes }
    }

    /// Adds another count. Counters wrap: 2^64 bytes take 46 years at 100 Gbit/s.
    #[inline(always)]
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// The most reasons to drop a packet that [`Totals`] has room for.
pub const MOST_REASONS: usize = 16;

const _: () = assert!(DropReason::ALL.len() <= MOST_REASONS, "more reasons are a new version of the ABI");

/// What one CPU has counted, beside the sources. No counter ever goes down.
///
/// Denied packets are counted twice: in `drops`, by reason, and in the source tables ([`crate::source_table`]), by source,
/// each in exactly one place. The sum over the tables and `unattributed` is that of the reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Totals {
    /// For the guarded port, from a source on the allowlist.
    pub allowed: Count,
    /// Dropped, or let through in audit mode, by the number of the reason ([`DropReason::number`]).
    pub drops: [Count; MOST_REASONS],
    /// The packets of `drops` that passed in audit mode.
    pub would_drop: Count,
    /// Denied packets that no source table counts. The remainders of the tables are not included.
    pub unattributed: Count,
    /// What all denied packets asked for, in the source tables or not.
    pub requests: Requests,
    /// Denied packets that the log had no budget or no room for.
    pub not_logged: u64,
    /// The last tick in which the program asked for the time.
    pub tick: Tick,
    /// Zero. It fills ten cache lines.
    pub reserved: [u64; 7],
}

/// What the clock said in a tick of the kernel, for entries that end. It is no counter, and only the program uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Tick {
    /// The number of the tick.
    pub jiffies: u64,
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub boot_time: u64,
}

// SAFETY: two integers of the same size; zeroes are no tick (jiffies begin near 2^32).
unsafe impl Shared for Tick {}

// SAFETY: integers of the same size that fill the 640 bytes (asserted below); zeroes are the empty value.
unsafe impl Shared for Totals {}

const _: () = assert!(size_of::<Totals>() == 640);

impl Totals {
    /// The counter of a reason.
    #[inline(always)]
    pub fn drop_mut(&mut self, reason: DropReason) -> &mut Count {
        &mut self.drops[reason.number()]
    }

    /// The packets that were dropped whatever their source.
    pub fn faults(&self) -> ByFault<Count> {
        Fault::ALL.map(|fault| self.drops[DropReason::Fault(fault).number()])
    }

    /// The same counters, with these of the packets that were dropped whatever their source.
    #[must_use]
    pub fn with_faults(mut self, faults: ByFault<Count>) -> Self {
        for (fault, count) in Fault::ALL.into_iter().zip(faults) {
            self.drops[DropReason::Fault(fault).number()] = count;
        }
        self
    }

    /// Adds the counters of another CPU.
    pub fn add(&mut self, other: &Self) {
        self.allowed.add(other.allowed);
        for (sum, more) in self.drops.iter_mut().zip(other.drops) {
            sum.add(more);
        }
        self.would_drop.add(other.would_drop);
        self.unattributed.add(other.unattributed);
        for index in 0..REQUESTS {
            self.requests[index] = self.requests[index].wrapping_add(other.requests[index]);
        }
        self.not_logged = self.not_logged.wrapping_add(other.not_logged);
    }
}
