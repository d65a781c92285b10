//! Array maps, read and written through a memory mapping, without a system call for each element.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use portguard_common::layout::Shared;

/// The memory of a `BPF_F_MMAPABLE` array map.
///
/// The kernel program writes to this memory at any time: its parts are copied out or written field by field, never borrowed.
#[derive(Debug)]
pub(super) struct Memory {
    first: NonNull<u8>,
    /// The number of elements.
    len: u32,
    /// The bytes from one element to the next.
    stride: usize,
    bytes: usize,
}

impl Memory {
    /// Maps an array into memory.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let len = info.max_entries();
        // The kernel rounds the size of an element up (`array_map_alloc` in `kernel/bpf/arraymap.c`).
        let stride = (info.value_size() as usize).next_multiple_of(size_of::<u64>());
        let bytes = (len as usize * stride).next_multiple_of(page_size());
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidData)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let first = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map.fd(), 0) }?;
        Ok(Self { first: first.cast(), len, stride, bytes })
    }

    /// The number of elements.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The size of an element in bytes, rounded up to eight bytes.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// The address of a part of an element, `offset` bytes after its start: valid, and aligned, for as long as `self` is
    /// alive.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element, or the part is not within it, or not aligned.
    pub(super) fn part<T: Shared>(&self, index: u32, offset: usize) -> *mut T {
        assert!(index < self.len, "element {index} of {}", self.len);
        assert!(offset + size_of::<T>() <= self.stride && offset.is_multiple_of(align_of::<T>().min(8)));
        // SAFETY: the part is within the mapping.
        unsafe { self.first.as_ptr().add(index as usize * self.stride + offset).cast() }
    }

    /// A copy of a part of an element. The kernel program may have changed it during the copy.
    ///
    /// # Panics
    ///
    /// As [`Memory::part`].
    pub(super) fn read<T: Shared>(&self, index: u32, offset: usize) -> T {
        // SAFETY: the part is mapped, and any bytes that were once written as `T`, or zeroes, are a `T`.
        unsafe { self.part::<T>(index, offset).read_volatile() }
    }

    /// An integer within an element. The load has acquire order: later reads of the caller do not move before it.
    ///
    /// # Panics
    ///
    /// As [`Memory::part`].
    pub(super) fn read_acquire(&self, index: u32, offset: usize) -> u32 {
        // SAFETY: the integer lies within a mapped element, aligned, and is only ever accessed whole.
        unsafe { AtomicU32::from_ptr(self.part(index, offset)) }.load(Ordering::Acquire)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and nothing borrows from it. After an error it remains mapped, which
        // does no harm.
        let _ = unsafe { munmap(self.first.cast(), self.bytes) };
    }
}

/// The elements of a `BPF_F_MMAPABLE` array map, which are all of one type.
#[derive(Debug)]
pub struct Mapped<T: Shared> {
    memory: Memory,
    elements: PhantomData<T>,
}

impl<T: Shared> Mapped<T> {
    /// Maps an array into memory.
    ///
    /// # Errors
    /// The size of the array's values is not that of `T`, or the kernel refuses.
    pub fn new(map: &MapData) -> io::Result<Self> {
        let memory = Memory::new(map)?;
        if memory.stride != size_of::<T>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("its values have {} bytes, not {}", memory.stride, size_of::<T>()),
            ));
        }
        Ok(Self { memory, elements: PhantomData })
    }

    /// Number of elements.
    pub fn len(&self) -> u32 {
        self.memory.len
    }

    /// Whether there are no elements, which never happens: the kernel makes no empty maps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of an element. The kernel program may have changed the element during the copy.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element.
    pub fn read(&self, index: u32) -> T {
        self.memory.read(index, 0)
    }

    /// An integer within an element, `offset` bytes after its start: see [`Memory::read_acquire`].
    ///
    /// # Panics
    ///
    /// Panics if there is no such element, or the integer is not aligned within it.
    pub(crate) fn read_u32(&self, index: u32, offset: usize) -> u32 {
        self.memory.read_acquire(index, offset)
    }

    /// A word within an element, `offset` bytes after its start.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element, or the word is not aligned within it.
    pub(crate) fn word(&self, index: u32, offset: usize) -> u64 {
        self.memory.read(index, offset)
    }

    /// Writes elements to the places from `first` on.
    ///
    /// # Panics
    ///
    /// Panics if the map has no such places.
    pub(crate) fn write(&self, first: u32, elements: &[T]) {
        assert!(first as usize + elements.len() <= self.len() as usize, "places of the map");
        let Some(last) = elements.len().checked_sub(1) else { return };
        let _ = self.element(first + last as u32);
        // SAFETY: the elements are contiguous in the mapping, and no other code of this process has its address. A
        // reader of the map that reads during the write copies elements and checks them.
        unsafe { self.element(first).copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
    }

    /// The address of an element: valid, and aligned, for as long as `self` is alive.
    ///
    /// # Panics
    ///
    /// Panics if there is no such element.
    pub fn element(&self, index: u32) -> *mut T {
        self.memory.part(index, 0)
    }
}

fn page_size() -> usize {
    // SAFETY: no preconditions; the page size is always known.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
