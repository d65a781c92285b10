//! What becomes of a denied packet: it is counted, perhaps logged, and dropped.
//!
//! Inline in the common case. The BPF global functions are for the others: the verifier checks them once and not with
//! each of the ways that lead here, and their variables are not on the stack of those ways.

use aya_ebpf::bindings::xdp_md;
use portguard_common::address::V4;
use portguard_common::rpc::Request;
use portguard_common::verdict::Denied;

use crate::accounting::Account;
use crate::court;
use crate::family::Family;
use crate::log;

/// A denied packet, but for its source, in 64 bits: its length in the lowest 32, then its source port as the integer that
/// its two bytes are on this machine, then the index of its request.
#[derive(Clone, Copy)]
pub(crate) struct Packed(u64);

impl Packed {
    #[inline(always)]
    pub(crate) fn new<A>(denied: &Denied<A>, bytes: u64) -> Self {
        // No packet is near 2^32 bytes long. To cut the number off there would not be noticed but by the verifier, which
        // does not allow arithmetic in 32 bits with the pointers that it comes from.
        let port = u64::from(u16::from_ne_bytes(denied.source_port_be));
        Self(bytes | port << 32 | (denied.request.index() as u64) << 48)
    }

    #[inline(always)]
    pub(crate) fn bytes(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    #[inline(always)]
    pub(crate) fn source_port_be(self) -> [u8; 2] {
        ((self.0 >> 32) as u16).to_ne_bytes()
    }

    #[inline(always)]
    pub(crate) fn request(self) -> Request {
        Request::from_index((self.0 >> 48) as u8)
    }

    #[inline(always)]
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As the argument of a call.
    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}

/// For IPv4; the last argument is a [`Packed`]. Returns the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v4(ctx: *mut xdp_md, source: V4, packed: u64) -> u32 {
    settle(ctx, source, Packed::from_word(packed))
}

/// For IPv6; the halves of the source, and a [`Packed`]. Returns the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v6(ctx: *mut xdp_md, first: u64, second: u64, packed: u64) -> u32 {
    settle(ctx, [first, second], Packed::from_word(packed))
}

/// Returns the action.
#[inline(always)]
pub(crate) fn settle<A: Family>(ctx: *mut xdp_md, source: A, packet: Packed) -> u32 {
    let mut account = Account::open(packet.bytes());
    account.denied(source, packet.request());
    log::denied(ctx, source, packet);
    court::refuse(account)
}
