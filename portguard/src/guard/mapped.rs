//! Array maps, read and written through a memory mapping, without a system call for each element.

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
    /// Maps an array into memory.
    ///
    /// # Errors
    /// The size of the array's values is not that of `T`, or the kernel refuses.
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

    /// Whether there are no elements, which never happens: the kernel makes no empty maps.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of an element. The kernel program may have changed the element during the copy.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element.
    pub fn read(&self, index: u32) -> T {
        // SAFETY: the element is mapped, and any bytes that were once written as `T`, or zeroes, are a `T`.
        unsafe { self.element(index).read_volatile() }
    }

    /// An integer within an element, `offset` bytes after its start. The load has acquire order: later reads of the
    /// caller do not move before it.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element, or the integer is not aligned within it.
    pub(crate) fn read_u32(&self, index: u32, offset: usize) -> u32 {
        assert!(offset + size_of::<u32>() <= size_of::<T>() && offset.is_multiple_of(align_of::<u32>()));
        // SAFETY: the integer lies within a mapped element, aligned, and is only ever accessed whole.
        unsafe { AtomicU32::from_ptr(self.element(index).byte_add(offset).cast()) }.load(Ordering::Acquire)
    }

    /// Writes all elements of the map.
    ///
    /// # Panics
    ///
    /// Panics if `elements` has another length than the map.
    pub(crate) fn write_all(&self, elements: &[T]) {
        assert_eq!(elements.len(), self.len as usize, "as many elements as the map has");
        // SAFETY: the elements are contiguous in the mapping, and no other code of this process has its address. A
        // reader of the map that reads during the write copies elements and checks them.
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
        // SAFETY: the mapping was made in `new`, and nothing borrows from it. After an error it remains mapped, which
        // does no harm.
        let _ = unsafe { munmap(self.first.cast(), self.bytes) };
    }
}

fn page_size() -> usize {
    // SAFETY: no preconditions; the page size is always known.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
