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

/// How often an insertion is tried that fails for want of memory: the allocator of the tries refills itself in the
/// background (amazon-linux-2023#1129), so a moment later it may succeed.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// How many entries go into a trie, or come out of it, by one system call.
const BATCH: usize = 16_384;

/// How many entries are looked up in a trie that has been filled. The kernel has told of each entry that it took it; this
/// is to find out about a trie that is not what it should be.
const VERIFIED: usize = 65_536;

/// A trie with these entries, which are in order, all of them there. `filled` is told how many there are so far.
pub(super) fn new_trie<K: Pod>(
    keys: &[Key<K>],
    numbers: &[u32],
    mut filled: impl FnMut(usize),
) -> Result<MapData> {
    // One to spare: kernels before 5.11 refuse even a replacement in a full trie, and none makes an empty one.
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

/// Inserts some entries: by one call, or one by one where the kernel cannot do that (before 5.18).
fn insert<K: Pod>(map: &mut Map, keys: &[Key<K>], numbers: &[u32]) -> Result<()> {
    let Map::LpmTrie(data) = map else { unreachable!("it was made as a trie") };
    if bpf::update_batch(data.fd().as_fd(), keys, numbers).is_ok() {
        return Ok(());
    }
    // What stands in the way of one entry is found out, and told, by the calls for one; to put an entry there twice does
    // no harm.
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

/// Looks up the entries, or as many of them all over the trie. A look-up with the length of a prefix finds that prefix, and
/// not a longer one in it.
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

/// The entries of a trie, by its pin, in no particular order: each prefix, and its number in the file.
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

/// The entry of a trie, by its pin, that covers an address of `width` bits: the length of its prefix, and its number in
/// the file. The trie is not read for it: a look-up finds the longest of the prefixes that are not longer than it asks
/// for, so the least length that still finds the same entry is that of the entry.
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
    // It is found with `longest`, and not with what is below `shortest`.
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
