//! The kernel programs of portguard, at XDP and at tcx: they let only sources on the allowlist reach port 111.
//!
//! This crate makes no policy. `portguard-common` parses and judges; this crate gives it the packet, the lists and the
//! counters.
//!
//! Invariants:
//! - One exit: counter first, then action.
//! - Only a CPU itself writes its cells, without atomics: both hooks run with softirqs off.
//! - A packet is judged by one list: a look-up reads the slot in force once, and finds the conditions of the entry with it. What it leaves
//!   undecided, the next look-up decides alone.
//! - If a map has no element for a key (the loader prevents this), the packet is treated as denied: fail closed.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "programs take their context as aya's macro hands it over"
)]

mod accounting;
mod budget;
mod clock;
mod connected;
mod datapath;
mod denied;
mod family;
mod fast_path;
mod hook;
mod list;
mod log;
mod maps;
mod packet;
mod tcx;
mod xdp;

use core::mem::size_of;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::tcx::Tcx;
use crate::xdp::{Buffers, OneBuffer};

/// The guard for interfaces whose packets come in one buffer.
#[xdp]
#[inline(always)]
pub(crate) fn portguard(ctx: XdpContext) -> u32 {
    fast_path::judge(OneBuffer::new(ctx.ctx))
}

/// The guard for interfaces whose packets may come in several buffers (jumbo frames, large receive offload): Linux 5.18
/// and later.
#[xdp(frags)]
#[inline(always)]
pub(crate) fn portguard_frags(ctx: XdpContext) -> u32 {
    fast_path::judge(Buffers::new(ctx.ctx))
}

/// The guard at tcx, on the way in: Linux 6.6 and later.
#[classifier]
#[inline(always)]
pub(crate) fn portguard_tcx(ctx: TcContext) -> i32 {
    fast_path::judge(Tcx::new(ctx.skb.skb)) as i32
}

/// Reads both clocks that the loader needs to interpret a stamp. It writes the jiffies, then the nanoseconds since boot
/// (`CLOCK_MONOTONIC`), as native 64-bit integers over the first 16 bytes of the packet. It is never attached; the loader
/// calls it with `BPF_PROG_TEST_RUN`.
#[xdp]
pub(crate) fn portguard_clock(ctx: XdpContext) -> u32 {
    let clocks = ctx.data() as *mut [u64; 2];
    if ctx.data() + size_of::<[u64; 2]>() > ctx.data_end() {
        return XDP_DROP;
    }
    // SAFETY: the packet has 16 bytes, and packet memory is writable.
    unsafe { clocks.write_unaligned([bpf_jiffies64(), bpf_ktime_get_ns()]) };
    XDP_PASS
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// The kernel offers its GPL helpers to programs with a compatible licence. This is one of the strings that it recognises
/// (`license_is_gpl_compatible` in `include/linux/license.h`).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
