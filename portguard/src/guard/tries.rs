//! The tries of lists: prefix -> number.

use std::mem;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};

use crate::error::{Error, Result};
use crate::guard::bpf;

/// The most attempts at an insertion that fails for lack of memory. The allocator of the tries refills itself in the
/// background (amazon-linux-2023#1129), so a later attempt may succeed.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The number of entries that are removed at a time, and the pause after them if there are many. The kernel frees the memory of
/// removed entries some tenths of a second later, and holds a CPU for all that has come together: at this pace, for some 20 ms.
const REMOVED: usize = 4096;
const FREEING: Duration = Duration::from_millis(14);

/// The number of entries that one system call writes or reads.
const BATCH: usize = 16_384;

/// The most entries that are looked up in a trie after it was filled. The kernel has reported success for each
/// insertion; these look-ups find a trie that is wrong in spite of that.
const VERIFIED: usize = 65_536;

/// The fewest entries of a list whose tries are emptied before they are removed.
pub(super) const MANY: u32 = 10_000;

/// A pinned trie.
#[derive(Debug)]
pub(super) struct Trie {
    map: Map,
    path: PathBuf,
}

impl Trie {
    /// Opens the trie that is pinned at a path.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let data = MapData::from_pin(path).map_err(|error| unreadable(path).caused_by(error))?;
        Ok(Self { map: Map::LpmTrie(data), path: path.to_owned() })
    }

    fn data(&self) -> &MapData {
        match &self.map {
            Map::LpmTrie(data) => data,
            _ => unreachable!("it was made as a trie"),
        }
    }

    fn view<K: Pod>(&mut self) -> Result<LpmTrie<&mut MapData, K, u32>> {
        LpmTrie::try_from(&mut self.map).map_err(|error| unreadable(&self.path).caused_by(error))
    }

    /// Inserts entries, which are best in order: that makes the kernel three times as fast. `done` gets the number of entries
    /// so far.
    pub(super) fn insert<K: Pod>(
        &mut self,
        keys: &[Key<K>],
        numbers: &[u32],
        mut done: impl FnMut(usize),
    ) -> Result<()> {
        let mut inserted = 0;
        for (keys, numbers) in keys.chunks(BATCH).zip(numbers.chunks(BATCH)) {
            if bpf::update_batch(self.data().fd().as_fd(), keys, numbers).is_err() {
                // Linux before 5.18 has no batches for tries. Otherwise, calls for single entries find and report the entry
                // that fails. To insert an entry twice does no harm.
                let mut trie = self.view()?;
                for (key, number) in keys.iter().zip(numbers) {
                    insert_one(&mut trie, key, *number).map_err(|error| cannot_fill().caused_by(error))?;
                }
            }
            inserted += keys.len();
            done(inserted);
        }
        Ok(())
    }

    /// Removes entries, many of them at a pace. The trie need not have all of them.
    pub(super) fn remove<K: Pod>(&mut self, keys: &[Key<K>]) -> Result<()> {
        for some in keys.chunks(REMOVED) {
            self.remove_some(some)?;
            if keys.len() > BATCH {
                thread::sleep(FREEING);
            }
        }
        Ok(())
    }

    fn remove_some<K: Pod>(&mut self, keys: &[Key<K>]) -> Result<()> {
        if bpf::delete_batch(self.data().fd().as_fd(), keys).is_ok() {
            return Ok(());
        }
        let failed = |path: &Path| Error::failed(format!("cannot remove entries from {}", path.display()));
        let path = self.path.clone();
        let mut trie = self.view()?;
        for key in keys {
            match trie.remove(key) {
                Ok(()) => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&path).caused_by(error)),
            }
        }
        Ok(())
    }

    /// Looks up the entries, or [`VERIFIED`] of them, spread over the trie. A look-up with the length of a prefix finds that
    /// prefix, and not a longer one within it.
    pub(super) fn verify<K: Pod>(&mut self, keys: &[Key<K>], numbers: &[u32]) -> Result<()> {
        let trie = self.view()?;
        for (key, number) in keys.iter().zip(numbers).step_by(keys.len().div_ceil(VERIFIED).max(1)) {
            let found = trie.get(key, 0).map_err(|error| cannot_fill().caused_by(error))?;
            if found != *number {
                return Err(cannot_fill().because(format!("entry {number} reads back as entry {found}")));
            }
        }
        Ok(())
    }

    /// The number of the longest prefix that contains the first `length` bits of an address, and is not longer.
    pub(super) fn longest<K: Pod>(&mut self, address: K, length: u8) -> Result<Option<u32>> {
        match self.view()?.get(&Key::new(length.into(), address), 0) {
            Ok(number) => Ok(Some(number)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(unreadable(&self.path).caused_by(error)),
        }
    }

    /// The entries, in no particular order: each prefix, and its number.
    pub(super) fn entries<K: Pod>(&mut self) -> Result<Vec<(Key<K>, u32)>> {
        let info = self.data().info().map_err(|error| unreadable(&self.path).caused_by(error))?;
        let capacity = info.max_entries() as usize;
        let mut keys = vec![Key::new(0, zeroed::<K>()); capacity];
        let mut numbers = vec![0_u32; capacity];
        if let Ok(found) = bpf::lookup_batch(self.data().fd().as_fd(), &mut keys, &mut numbers, BATCH) {
            keys.truncate(found);
            return Ok(keys.into_iter().zip(numbers).collect());
        }
        // Linux before 5.18 has no batches for tries.
        let path = self.path.clone();
        let trie = self.view()?;
        trie.iter().map(|entry| entry.map_err(|error| unreadable(&path).caused_by(error))).collect()
    }

    /// Removes the entries of a trie that no program uses any more. The kernel would free the trie in one go and hold a CPU for
    /// that (`trie_free` in `kernel/bpf/lpm_trie.c`): 0.4 s for a million entries. Errors are ignored, because the kernel
    /// then does the work.
    pub(super) fn empty<K: Pod>(mut self) {
        let Ok(entries) = self.entries::<K>() else { return };
        let keys: Vec<_> = entries.into_iter().map(|(key, _)| key).collect();
        let _ = self.remove(&keys);
    }
}

fn insert_one<K: Pod>(
    trie: &mut LpmTrie<&mut MapData, K, u32>,
    key: &Key<K>,
    number: u32,
) -> Result<(), MapError> {
    for _ in 1..ATTEMPTS {
        match trie.insert(key, number, 0) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOMEM) => {
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    trie.insert(key, number, 0)
}

fn zeroed<K: Pod>() -> K {
    // SAFETY: any bytes are a value of a plain old data type.
    unsafe { mem::zeroed() }
}

pub(super) fn unreadable(path: &Path) -> Error {
    Error::failed(format!("cannot read the list in force from {}", path.display()))
}

pub(super) fn cannot_fill() -> Error {
    Error::failed("cannot fill a new list in the kernel").remedy("The list in force is unchanged.")
}
