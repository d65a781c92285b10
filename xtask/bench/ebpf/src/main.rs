//! The kernel programs of `cargo xtask bench`: references to compare with, forgers of sources, and the baseline.
//!
//! They take packets in several buffers (`xdp.frags`), as portguard does. The forgers exist in both kinds, because the
//! kernel lets a program hand packets on only to one of its own kind, and xdp-filter is of the other.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "programs take their context as aya's macro hands it over"
)]

mod baseline;
mod forger;
mod maps;
mod packet;
mod shared;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

use crate::forger::{forge_v4, forge_v6};
use crate::maps::{NEXT, NEXT_FRAGS};

/// The least that a program can do for a packet that passes.
#[xdp(frags)]
pub(crate) fn bare_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The least that a program can do for a packet that is dropped.
#[xdp(frags)]
pub(crate) fn bare_drop(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// An LPM trie and an LRU hash.
#[xdp(frags)]
pub(crate) fn lpm_lru(ctx: XdpContext) -> u32 {
    baseline::judge::<{ baseline::COUNT }>(&ctx)
}

/// An LPM trie alone: it remembers no sources.
#[xdp(frags)]
pub(crate) fn lpm(ctx: XdpContext) -> u32 {
    baseline::judge::<{ baseline::LOOK_UP }>(&ctx)
}

/// The same without the trie: it lets everything pass.
#[xdp(frags)]
pub(crate) fn parse(ctx: XdpContext) -> u32 {
    baseline::judge::<{ baseline::PARSE }>(&ctx)
}

/// Forges the source of an IPv4 packet and hands it on.
#[xdp]
pub(crate) fn v4(ctx: XdpContext) -> u32 {
    if forge_v4(&ctx).is_some() {
        // SAFETY: nothing is left to be done here.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// Forges the source of an IPv6 packet and hands it on.
#[xdp]
pub(crate) fn v6(ctx: XdpContext) -> u32 {
    if forge_v6(&ctx).is_some() {
        // SAFETY: nothing is left to be done here.
        unsafe { NEXT.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// As [`v4`], to a program that takes packets in several buffers.
#[xdp(frags)]
pub(crate) fn v4_frags(ctx: XdpContext) -> u32 {
    if forge_v4(&ctx).is_some() {
        // SAFETY: nothing is left to be done here.
        unsafe { NEXT_FRAGS.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// As [`v6`], to a program that takes packets in several buffers.
#[xdp(frags)]
pub(crate) fn v6_frags(ctx: XdpContext) -> u32 {
    if forge_v6(&ctx).is_some() {
        // SAFETY: nothing is left to be done here.
        unsafe { NEXT_FRAGS.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// Forges the source of an IPv4 packet and sends it out of the interface that it is said to have come in by.
#[xdp]
pub(crate) fn flood(ctx: XdpContext) -> u32 {
    if forge_v4(&ctx).is_some() { XDP_TX } else { XDP_ABORTED }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// As the kernel knows it (`license_is_gpl_compatible` in `include/linux/license.h`).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
