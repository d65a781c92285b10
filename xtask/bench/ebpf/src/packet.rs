//! Packet memory.

use core::mem::size_of;

use aya_ebpf::programs::XdpContext;

/// A pointer into the packet, if the whole of `T` is there.
#[inline(always)]
pub(crate) fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    (start + size_of::<T>() <= ctx.data_end()).then_some(start as *mut T)
}

/// A copy of bytes of the packet.
#[inline(always)]
pub(crate) fn read<T: Copy>(ctx: &XdpContext, offset: usize) -> Option<T> {
    // SAFETY: the bytes are there, and callers read bytes and arrays of them.
    at::<T>(ctx, offset).map(|bytes| unsafe { bytes.read_unaligned() })
}
