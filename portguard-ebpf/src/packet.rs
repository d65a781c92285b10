//! The packet, as the parser reads it.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use portguard_common::cursor::{Cursor, Linear, MAX_OFFSET};
use portguard_common::layout::Wire;

/// The first buffer of the packet. It is all of the packet, except for jumbo frames and large receive offload.
#[inline(always)]
pub(crate) fn first_buffer(ctx: &XdpContext) -> Linear<'_> {
    // SAFETY: the kernel keeps this memory readable while the program runs, and nothing here writes to it (the clock
    // program does, and parses nothing).
    unsafe { Linear::from_raw(ctx.data() as *const u8, ctx.data_end() as *const u8) }
}

/// The number of bytes in the first buffer.
#[inline(always)]
pub(crate) fn first_len(ctx: &XdpContext) -> u64 {
    (ctx.data_end() - ctx.data()) as u64
}

/// Whether the packet continues after the first buffer.
#[inline(always)]
pub(crate) fn goes_on(ctx: &XdpContext) -> bool {
    first_len(ctx) < len(ctx)
}

/// The number of bytes in all buffers.
#[inline(always)]
pub(crate) fn len(ctx: &XdpContext) -> u64 {
    // SAFETY: the helper takes the context that the kernel has handed to the program.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
}

/// A header on the stack, where the verifier requires aligned accesses.
#[repr(align(8))]
struct OnStack<T>(MaybeUninit<T>);

/// A cursor over the whole packet, in any number of buffers. It is slower: each header takes a call.
#[derive(Clone, Copy)]
pub(crate) struct AllBuffers {
    ctx: *mut xdp_md,
    offset: usize,
    len: usize,
}

impl AllBuffers {
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        Self { ctx: ctx.ctx, offset: 0, len: len(ctx) as usize }
    }
}

impl Cursor for AllBuffers {
    #[inline(always)]
    fn read<T: Wire>(&mut self) -> Option<T> {
        let mut on_stack = OnStack(MaybeUninit::<T>::uninit());
        let header = on_stack.0.as_mut_ptr();
        let offset = u32::try_from(self.offset).ok()?;
        // SAFETY: the context is the kernel's, and the buffer has the length that the call passes.
        let failed = unsafe { bpf_xdp_load_bytes(self.ctx, offset, header.cast(), size_of::<T>() as u32) };
        if failed != 0 {
            return None;
        }
        self.offset += size_of::<T>();
        // SAFETY: the helper has filled it, and `Wire` types take any bytes.
        Some(unsafe { on_stack.0.assume_init() })
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) -> Option<()> {
        let behind = self.offset + length;
        if behind > self.len {
            return None;
        }
        self.offset = behind;
        Some(())
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> Option<Self> {
        (offset <= MAX_OFFSET).then_some(Self { offset, ..*self })
    }

    #[inline(always)]
    fn offset(&self) -> usize {
        self.offset
    }
}
