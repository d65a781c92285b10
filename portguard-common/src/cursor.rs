//! The only raw reads of packet memory.
//!
//! Before a [`Linear`] cursor reads a header, it compares the end of the header with the end of the frame. The BPF
//! verifier recognises this form of bounds check (`data + offset + size > data_end`).

use core::marker::PhantomData;
use core::mem::size_of;

use crate::layout::Wire;

/// The largest offset into a frame that [`Cursor::at`] accepts. Four VLAN tags, an IPv6 header and sixteen extension
/// headers of the greatest length (2048 bytes each) end before it. The verifier permits no access to bytes more than
/// 65,535 bytes after the start of a packet (`MAX_PACKET_OFF` in `kernel/bpf/verifier.c`).
pub const MAX_OFFSET: usize = 0x8fff;

/// A position in a frame that moves forward over its headers.
pub trait Cursor: Copy {
    /// Reads a header and moves to its end; `None` if the frame ends before the header does.
    fn read<T: Wire>(&mut self) -> Option<T>;

    /// Moves `length` bytes forward; `None` if the frame ends before that.
    fn skip(&mut self, length: usize) -> Option<()>;

    /// The position `offset` bytes after the start of the frame; `None` beyond [`MAX_OFFSET`].
    fn at(&self, offset: usize) -> Option<Self>;

    /// The number of bytes between the start of the frame and this position.
    fn offset(&self) -> usize;

    /// The next byte, without moving.
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        let mut ahead = *self;
        ahead.read::<[u8; 1]>().map(|[byte]| byte)
    }
}

/// A cursor over a frame that lies in one piece of memory.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    start: *const u8,
    position: *const u8,
    /// `position - start`, counted and not computed. The compiler turns a difference of two packet pointers back into
    /// pointer arithmetic, in forms that the verifier does not follow.
    offset: usize,
    end: *const u8,
    frame: PhantomData<&'a [u8]>,
}

impl<'a> Linear<'a> {
    /// A cursor at the start of `frame`.
    #[inline(always)]
    pub fn new(frame: &'a [u8]) -> Self {
        let range = frame.as_ptr_range();
        // SAFETY: the range of a slice is readable for the lifetime of the slice.
        unsafe { Self::from_raw(range.start, range.end) }
    }

    /// A cursor over the memory from `start` up to, but not including, `end`.
    ///
    /// # Safety
    ///
    /// The memory must be readable and must not change for the lifetime `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(start: *const u8, end: *const u8) -> Self {
        Self { start, position: start, offset: 0, end, frame: PhantomData }
    }
}

impl Cursor for Linear<'_> {
    #[inline(always)]
    fn read<T: Wire>(&mut self) -> Option<T> {
        let header = *self;
        self.skip(size_of::<T>())?;
        // SAFETY: `skip` has shown that `size_of::<T>()` bytes from the old position on lie in the frame, which is
        // readable; `Wire` types take any bytes.
        Some(unsafe { header.position.cast::<T>().read_unaligned() })
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) -> Option<()> {
        let behind = self.position.wrapping_add(length);
        if behind > self.end {
            return None;
        }
        self.position = behind;
        self.offset += length;
        Some(())
    }

    #[inline(always)]
    fn at(&self, offset: usize) -> Option<Self> {
        if offset > MAX_OFFSET {
            return None;
        }
        Some(Self { position: self.start.wrapping_add(offset), offset, ..*self })
    }

    #[inline(always)]
    fn offset(&self) -> usize {
        self.offset
    }
}

// SAFETY: an array of bytes has alignment 1, no padding, and takes any bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_last_byte_and_no_further() {
        let frame = [1, 2, 3];
        let mut cursor = Linear::new(&frame);
        assert_eq!(cursor.read::<[u8; 2]>(), Some([1, 2]));
        assert_eq!(cursor.read::<[u8; 2]>(), None);
        assert_eq!(cursor.offset(), 2, "a failed read does not move");
        assert_eq!(cursor.peek(), Some(3));
        assert_eq!(cursor.read::<[u8; 1]>(), Some([3]));
        assert_eq!(cursor.peek(), None);
    }

    #[test]
    fn at_counts_from_the_start() {
        let frame = [1, 2, 3];
        let mut cursor = Linear::new(&frame);
        cursor.skip(3).unwrap();
        assert_eq!(cursor.at(1).unwrap().peek(), Some(2));
        assert_eq!(cursor.at(3).unwrap().peek(), None);
        assert!(cursor.at(MAX_OFFSET + 1).is_none());
    }
}
