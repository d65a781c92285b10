//! The tries of a list: prefix -> number of the entry in the file.

use std::mem;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};
use aya_obj::generated::{BPF_F_NO_PREALLOC, bpf_map_type::BPF_MAP_TYPE_LPM_TRIE};

use crate::error::Result;
use crate::guard::bpf;
use crate::guard::lists::{cannot_fill, unreadable};

/// The most attempts at an insertion that fails for lack of memory. The allocator of the tries refills itself in the
/// background (amazon-linux-2023#1129), so a later attempt may succeed.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The number of entries that one system call writes or reads.
const BATCH: usize = 16_384;

/// The most entries that are looked up in a trie after it was filled. The kernel has reported success for each
/// insertion; these look-ups find a trie that is wrong in spite of that.
const VERIFIED: usize = 65_536;

/// Makes a trie with these entries, which are in order, and verifies it. `filled` gets the number of entries so far.
pub(super) fn new_trie<K: Pod>(
    keys: &[Key<K>],
    numbers: &[u32],
    mut filled: impl FnMut(usize),
) -> Result<MapData> {
    // One more than needed: kernels before 5.11 refuse even a replacement in a full trie, and no kernel makes a trie
    // without capacity.
    let capacity = u32::try_from(keys.len() + 1).map_err(|error| cannot_fill().caused_by(error))?;
    let map = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_LPM_TRIE as u32,
        size_of::<Key<K>>() as u32,
        size_of::<u32>() as u32,
        capacity,
        BPF_F_NO_PREALLOC,
    );
    let data =
        MapData::create(map, "portguard_list", None).map_err(|error| cannot_fill().caused_by(error))?;
    let mut map = Map::LpmTrie(data);
    let mut done = 0;
    for (keys, numbers) in keys.chunks(BATCH).zip(numbers.chunks(BATCH)) {
        insert(&mut map, keys, numbers)?;
        done += keys.len();
        filled(done);
    }
    verify(&mut map, keys, numbers)?;
    match map {
        Map::LpmTrie(data) => Ok(data),
        _ => unreachable!("it was made as a trie above"),
    }
}

/// Inserts entries with one call, or one by one if the kernel has no batches for tries (before 5.18).
fn insert<K: Pod>(map: &mut Map, keys: &[Key<K>], numbers: &[u32]) -> Result<()> {
    let Map::LpmTrie(data) = map else { unreachable!("it was made as a trie") };
    if bpf::update_batch(data.fd().as_fd(), keys, numbers).is_ok() {
        return Ok(());
    }
    // Calls for single entries find and report the entry that fails. To insert an entry twice does no harm.
    let mut trie = view(map)?;
    for (key, number) in keys.iter().zip(numbers) {
        insert_one(&mut trie, key, *number).map_err(|error| cannot_fill().caused_by(error))?;
    }
    Ok(())
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

/// Looks up the entries, or [`VERIFIED`] of them, spread over the trie. A look-up with the length of a prefix finds that
/// prefix, and not a longer one within it.
fn verify<K: Pod>(map: &mut Map, keys: &[Key<K>], numbers: &[u32]) -> Result<()> {
    let trie = view(map)?;
    for (key, number) in keys.iter().zip(numbers).step_by(keys.len().div_ceil(VERIFIED).max(1)) {
        let found = trie.get(key, 0).map_err(|error| cannot_fill().caused_by(error))?;
        if found != *number {
            return Err(cannot_fill().because(format!("entry {number} reads back as entry {found}")));
        }
    }
    Ok(())
}

fn view<K: Pod>(map: &mut Map) -> Result<LpmTrie<&mut MapData, K, u32>> {
    LpmTrie::try_from(map).map_err(|error| cannot_fill().caused_by(error))
}

/// The entries of the trie that is pinned at a path, in no particular order: each prefix, and its number in the file.
pub(super) fn entries<K: Pod>(path: &Path) -> Result<Vec<(Key<K>, u32)>> {
    let map = MapData::from_pin(path).map_err(|error| unreadable(path).caused_by(error))?;
    let capacity = map.info().map_err(|error| unreadable(path).caused_by(error))?.max_entries() as usize;
    let mut keys = vec![Key::new(0, zeroed::<K>()); capacity];
    let mut numbers = vec![0_u32; capacity];
    if let Ok(found) = bpf::lookup_batch(map.fd().as_fd(), &mut keys, &mut numbers, BATCH) {
        keys.truncate(found);
        return Ok(keys.into_iter().zip(numbers).collect());
    }
    // Linux before 5.18 has no batches for tries.
    let mut map = Map::LpmTrie(map);
    let trie = LpmTrie::<&mut MapData, K, u32>::try_from(&mut map)
        .map_err(|error| unreadable(path).caused_by(error))?;
    trie.iter().map(|entry| entry.map_err(|error| unreadable(path).caused_by(error))).collect()
}

/// The entry that covers an address of `width` bits, in the trie that is pinned at a path: the length of its prefix, and
/// its number in the file. This takes a few look-ups and does not read the whole trie: a look-up finds the longest
/// prefix that is not longer than its key, so the shortest key that finds the same entry has the length of the entry's
/// prefix.
pub(super) fn covering<K: Pod>(path: &Path, address: K, width: u8) -> Result<Option<(u8, u32)>> {
    let map = MapData::from_pin(path).map_err(|error| unreadable(path).caused_by(error))?;
    let mut map = Map::LpmTrie(map);
    let trie = LpmTrie::<&mut MapData, K, u32>::try_from(&mut map)
        .map_err(|error| unreadable(path).caused_by(error))?;
    let look_up = |length: u8| match trie.get(&Key::new(length.into(), address), 0) {
        Ok(number) => Ok(Some(number)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(unreadable(path).caused_by(error)),
    };
    let Some(number) = look_up(width)? else { return Ok(None) };
    // A key of length `longest` finds the entry, and all keys shorter than `shortest` do not.
    let (mut shortest, mut longest) = (0, width);
    while shortest < longest {
        let middle = shortest.midpoint(longest);
        if look_up(middle)? == Some(number) {
            longest = middle;
        } else {
            shortest = middle + 1;
        }
    }
    Ok(Some((longest, number)))
}

fn zeroed<K: Pod>() -> K {
    // SAFETY: any bytes are a value of a plain old data type.
    unsafe { mem::zeroed() }
}
