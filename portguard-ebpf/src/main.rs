//! A stand-in for the kernel program: drops everything whose fixed-offset port field says 111.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

#[btf_map]
static DROPPED: Array<u64, 1> = Array::new();

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the signature of an XDP entry point")]
fn portguard(ctx: XdpContext) -> u32 {
    let data = ctx.data();
    let port = data + 14 + 20 + 2;
    if port + 2 > ctx.data_end() {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the two bytes end before `data_end`.
    let port = unsafe { (port as *const u16).read_unaligned() };
    if u16::from_be(port) != 111 {
        return xdp_action::XDP_PASS;
    }
    if let Some(count) = DROPPED.get_ptr_mut(0) {
        // SAFETY: array maps hand out pointers to live elements.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
