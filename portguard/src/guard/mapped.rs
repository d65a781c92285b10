//! Array maps, read and written through memory: no system call an element.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use portguard_common::layout::Shared;

/// The elements of a `BPF_F_MMAPABLE` array map.
///
/// The kernel program writes to this memory at any time: elements are copied out or written field by field, never
/// borrowed.
#[derive(Debug)]
pub struct Mapped<T: Shared> {
    first: NonNull<T>,
    len: u32,
    bytes: usize,
    elements: PhantomData<T>,
}

impl<T: Shared> Mapped<T> {
    /// Maps an array, after a comparison of its value size with the size of `T`.
    pub fn new(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its values have {} bytes, not {}", info.value_size(), size_of::<T>()),
            ));
        }
        let len = info.max_entries();
        let page = page_size();
        let bytes = (len as usize * size_of::<T>()).next_multiple_of(page);
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidData)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let first = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd(), 0) }?;
        Ok(Self { first: first.cast(), len, bytes, elements: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no elements; the kernel makes no such maps.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of an element. The kernel program may have been at work on it.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element.
    pub fn read(&self, index: u32) -> T {
        // SAFETY: the element is mapped, and any bytes that were once written as `T`, or zeroes, are a `T`.
        unsafe { self.element(index).read_volatile() }
    }

    /// An integer within an element, at `offset` bytes from its start; nothing that is read after it was read before it.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element, or the integer is not aligned within it.
    pub(crate) fn read_u32(&self, index: u32, offset: usize) -> u32 {
        assert!(offset + size_of::<u32>() <= size_of::<T>() && offset.is_multiple_of(align_of::<u32>()));
        // SAFETY: the integer lies within a mapped element, aligned, and is only ever accessed whole.
        unsafe { AtomicU32::from_ptr(self.element(index).byte_add(offset).cast()) }.load(Ordering::Acquire)
    }

    /// Writes all elements, of which there must be as many.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer or more.
    pub(crate) fn write_all(&self, elements: &[T]) {
        assert_eq!(elements.len(), self.len as usize, "as many elements as the map has");
        // SAFETY: the elements are mapped one behind the other, for nobody but `self` has this address; whoever
        // reads the map while it is written copies elements and checks them.
        unsafe { self.first.as_ptr().copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
    }

    /// The address of an element: valid, and aligned, for as long as `self` is alive.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element.
    pub fn element(&self, index: u32) -> *mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: the index is within the mapping.
        unsafe { self.first.as_ptr().add(index as usize) }
    }
}

impl<T: Shared> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` and nothing borrows from it. An error leaves it mapped, which harms
        // nobody.
        let _ = unsafe { munmap(self.first.cast(), self.bytes) };
    }
}

fn page_size() -> usize {
    // SAFETY: no preconditions; the page size is always known.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
