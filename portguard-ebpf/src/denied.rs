//! Counts a denied packet, logs it if the log has room, and drops it (or lets it pass in audit mode).

use portguard_common::rpc::Request;
use portguard_common::totals::Count;
use portguard_common::verdict::{Denial, Denied};

use crate::accounting::Account;
use crate::datapath;
use crate::family::Family;
use crate::hook::Hook;
use crate::log;

/// A denied packet without its source.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// How many packets, if the kernel has merged some, and their bytes.
    pub(crate) count: Count,
    pub(crate) source_port_be: [u8; 2],
    pub(crate) request: Request,
    pub(crate) reason: Denial,
}

/// The position of the reason in a packed [`Packet`].
const REASON_SHIFT: u32 = 60;
const _: () = assert!(Denial::ALL.len() <= 16, "the reason has four bits");

impl Packet {
    #[inline(always)]
    pub(crate) fn new<A>(denied: &Denied<A>, count: Count) -> Self {
        let Denied { source_port_be, request, reason, .. } = *denied;
        Self { count, source_port_be, request, reason }
    }

    /// Packs the packet into 64 bits, as the argument of a call, but the number of packets: the length in bits 0 to 31, the two bytes of the
    /// source port (read as a native integer) in bits 32 to 47, the index of the request in bits 48 to 55, and the reason in bits 60 to 63.
    #[inline(always)]
    pub(crate) fn pack(self) -> u64 {
        // No packet is near 2^32 bytes long, so the length needs no cut to 32 bits. A cut would change no value, but the
        // verifier would refuse it: the length comes from pointers, with which it permits no 32-bit arithmetic.
        let port = u64::from(u16::from_ne_bytes(self.source_port_be));
        self.count.bytes
            | port << 32
            | (self.request.index() as u64) << 48
            | (self.reason as u64) << REASON_SHIFT
    }

    #[inline(always)]
    pub(crate) fn unpack(word: u64, packets: u64) -> Self {
        Self {
            count: Count { packets, bytes: word & 0xffff_ffff },
            source_port_be: ((word >> 32) as u16).to_ne_bytes(),
            request: Request::from_index((word >> 48) as u8),
            reason: Denial::from_number((word >> REASON_SHIFT) as u8),
        }
    }
}

/// Counts and logs a denied packet. Returns the action.
#[inline(always)]
pub(crate) fn finish<H: Hook, A: Family>(hook: H, source: A, packet: Packet) -> u32 {
    let mut account = Account::open(packet.count);
    account.denied(source, packet.request, packet.reason);
    log::denied(hook, source, packet);
    datapath::refuse::<H>(account)
}
