//! What becomes of a denied packet: it is counted, perhaps logged, and dropped.
//!
//! Inline in the common case. The BPF global functions are for the others: the verifier checks them once and not with
//! each of the ways that lead here, and their variables are not on the stack of those ways.

use aya_ebpf::bindings::xdp_md;
use portguard_common::address::V4;
use portguard_common::rpc::Request;
use portguard_common::verdict::Denied;

use crate::accounting::Account;
use crate::datapath;
use crate::family::Family;
use crate::log;

/// A denied packet, but for its source.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    pub(crate) bytes: u64,
    pub(crate) source_port_be: [u8; 2],
    pub(crate) request: Request,
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new<A>(denied: &Denied<A>, bytes: u64) -> Self {
        Self { bytes, source_port_be: denied.source_port_be, request: denied.request }
    }

    /// As the argument of a call, in 64 bits: its length in the lowest 32, then its source port as the integer that its
    /// two bytes are on this machine, then the index of its request.
    #[inline(always)]
    pub(crate) fn pack(self) -> u64 {
        // No packet is near 2^32 bytes long. To cut the number off there would not be noticed but by the verifier, which
        // does not allow arithmetic in 32 bits with the pointers that it comes from.
        let port = u64::from(u16::from_ne_bytes(self.source_port_be));
        self.bytes | port << 32 | (self.request.index() as u64) << 48
    }

    #[inline(always)]
    pub(crate) fn unpack(word: u64) -> Self {
        Self {
            bytes: word & 0xffff_ffff,
            source_port_be: ((word >> 32) as u16).to_ne_bytes(),
            request: Request::from_index((word >> 48) as u8),
        }
    }
}

/// For IPv4; the last argument is a packed [`Packet`]. Returns the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v4(ctx: *mut xdp_md, source: V4, packed: u64) -> u32 {
    finish(ctx, source, Packet::unpack(packed))
}

/// For IPv6; the halves of the source, and a packed [`Packet`]. Returns the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v6(ctx: *mut xdp_md, first: u64, second: u64, packed: u64) -> u32 {
    finish(ctx, [first, second], Packet::unpack(packed))
}

/// Returns the action.
#[inline(always)]
pub(crate) fn finish<A: Family>(ctx: *mut xdp_md, source: A, packet: Packet) -> u32 {
    let mut account = Account::open(packet.bytes);
    account.denied(source, packet.request);
    log::denied(ctx, source, packet);
    datapath::refuse(account)
}
