//! A packet in several buffers, as the parser reads it.

use core::mem::{MaybeUninit, size_of};

use portguard_common::cursor::{Cursor, MAX_OFFSET};
use portguard_common::layout::Wire;

use crate::hook::Hook;

/// A header on the stack, where the verifier requires aligned accesses.
#[repr(align(8))]
struct OnStack<T>(MaybeUninit<T>);

/// A cursor over the whole packet, in any number of buffers. It is slower: each header takes a call.
#[derive(Clone, Copy)]
pub(crate) struct AllBuffers<H> {
    hook: H,
    offset: usize,
    len: usize,
}

impl<H: Hook> AllBuffers<H> {
    #[inline(always)]
    pub(crate) fn new(hook: H) -> Self {
        Self { hook, offset: 0, len: hook.len() as usize }
    }
}

impl<H: Hook> Cursor for AllBuffers<H> {
    #[inline(always)]
    fn read<T: Wire>(&mut self) -> Option<T> {
        let mut on_stack = OnStack(MaybeUninit::<T>::uninit());
        let header = on_stack.0.as_mut_ptr();
        let offset = u32::try_from(self.offset).ok()?;
        if !self.hook.copy(offset, header.cast(), size_of::<T>() as u32) {
            return None;
        }
        self.offset += size_of::<T>();
        // SAFETY: the hook has filled it, and `Wire` types take any bytes.
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
