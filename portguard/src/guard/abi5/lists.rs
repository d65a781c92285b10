//! The tries of the list in force: `list<generation>-v4` and `-v6` in the directory of the interface. They map a prefix to the
//! number of its entry in the file.

use std::fs;
use std::path::Path;

use aya::Pod;

use crate::error::{Error, Result};
use crate::guard::tries::Trie;

/// The entries of a list, in no particular order: network address, length of the prefix, number in the file.
pub(in crate::guard) fn entries<W: Pod>(
    interface: &Path,
    generation: u64,
    family: &str,
) -> Result<Vec<(W, u8, u32)>> {
    let entries = trie(interface, generation, family)?.entries::<W>()?;
    Ok(entries.into_iter().map(|(key, number)| (key.data(), key.prefix_len() as u8, number)).collect())
}

/// The entry that covers an address of `width` bits: the length of its prefix, and its number in the file. The shortest key
/// that finds the same entry as the address has the length of the entry's prefix.
pub(in crate::guard) fn covering<W: Pod>(
    interface: &Path,
    generation: u64,
    family: &str,
    address: W,
    width: u8,
) -> Result<Option<(u8, u32)>> {
    let mut trie = trie(interface, generation, family)?;
    let Some(number) = trie.longest(address, width)? else { return Ok(None) };
    // A key of length `longest` finds the entry, and all keys shorter than `shortest` do not.
    let (mut shortest, mut longest) = (0, width);
    while shortest < longest {
        let middle = shortest.midpoint(longest);
        if trie.longest(address, middle)? == Some(number) {
            longest = middle;
        } else {
            shortest = middle + 1;
        }
    }
    Ok(Some((longest, number)))
}

/// The trie of a family.
pub(in crate::guard) fn trie(interface: &Path, generation: u64, family: &str) -> Result<Trie> {
    Trie::open(&interface.join(format!("list{generation}-{family}")))
}

/// Removes the pins of all lists, except those of the generation `keep`.
pub(in crate::guard) fn keep_pins(interface: &Path, keep: Option<u64>) -> Result<()> {
    let failed = |error| Error::failed(format!("cannot clean up {}", interface.display())).caused_by(error);
    let keep = keep.map(|generation| format!("list{generation}-"));
    for entry in fs::read_dir(interface).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("list") && !keep.as_ref().is_some_and(|keep| name.starts_with(keep)) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}
