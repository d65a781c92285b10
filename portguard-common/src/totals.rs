//! The counters that are not about a source: one [`Totals`] for each CPU, which only that CPU writes.

use crate::ABI_VERSION;
use crate::layout::Shared;
use crate::reason::{ByFault, Fault};
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
    /// Counts one packet.
    #[inline(always)]
    pub fn add_packet(&mut self, bytes: u64) {
        self.add(Self { packets: 1, bytes });
    }

    /// Adds another count. Counters wrap: 2^64 bytes take 46 years at 100 Gbit/s.
    #[inline(always)]
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// What one CPU has counted. How many packets were denied for their source is not here but in the source tables
/// ([`crate::source_table`]), each in exactly one place; their total is the sum over the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Totals {
    /// For the guarded port, from a source on the allowlist.
    pub allowed: Count,
    /// Dropped whatever their source.
    pub faults: ByFault<Count>,
    /// Packets that passed in audit mode, of the faults above and of the denied packets in the source tables.
    pub would_drop: Count,
    /// Denied packets that no source table counts. The remainders of the tables are not included.
    pub unattributed: Count,
    /// What all denied packets asked for, in the source tables or not.
    pub requests: Requests,
    /// Denied packets that the log had no token or no room for.
    pub not_logged: u64,
    /// Whole pairs of cache lines a CPU, so that no two CPUs write to the same pair.
    pub reserved: [u64; RESERVED],
}

/// What the counters above leave of the 256 bytes. No reason to drop a packet fits any more if this is less than zero, which
/// does not compile.
const RESERVED: usize = 256 / size_of::<u64>() - 2 * (3 + Fault::ALL.len()) - REQUESTS - 1;

// Each fault moves the counters behind it: see docs/internals/abi.md.
const _: () =
    assert!(Fault::ALL.len() == 3 || ABI_VERSION > 5, "one more reason is one more version of the ABI");

// SAFETY: integers of the same size that fill the 256 bytes (asserted below); zeroes are the empty value.
unsafe impl Shared for Totals {}

const _: () = assert!(size_of::<Totals>() == 256 && align_of::<Totals>() == 128);

impl Totals {
    /// The counter of a fault.
    #[inline(always)]
    pub fn fault(&mut self, fault: Fault) -> &mut Count {
        &mut self.faults[fault as usize]
    }

    /// Adds the counters of another CPU.
    pub fn add(&mut self, other: &Self) {
        self.allowed.add(other.allowed);
        for (sum, more) in self.faults.iter_mut().zip(other.faults) {
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
