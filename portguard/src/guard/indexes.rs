//! Writes the index of a list into the slot that is not in force: see [`portguard_common::index`].

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY};
use portguard_common::index::{Front, Indexed, Node};

use crate::allowlist::lookup_builder::Index;
use crate::error::{Error, Result};
use crate::guard::bpf;
use crate::guard::instance::Lists;
use crate::guard::mapped::Mapped;

/// Writes an index into a slot that is not in force. After an error, the slot has a part of the index that gives right
/// results, and the tries decide for all other addresses.
pub(super) fn put<A: Indexed>(lists: &Lists<A>, slot: u32, index: &Index<A>) -> Result<()> {
    write_front(lists, slot, &without_lines(&index.front));
    if index.lines.is_empty() {
        clear(lists, slot)?;
    } else {
        let lines = new_lines::<A>(&index.lines).map_err(|error| without().caused_by(error))?;
        bpf::set_inner_map(lists.indexes.as_fd(), slot, lines.fd().as_fd())
            .map_err(|error| without().caused_by(error))?;
    }
    write_front(lists, slot, &index.front);
    match index.is_complete() {
        true => Ok(()),
        false => Err(without().because("the index of such a list would take too much memory")),
    }
}

/// A front with its hints only. Its root and sieve must be written after the lines to which they refer: until then, the
/// slot may have the lines of an earlier list.
fn without_lines<A: Indexed>(front: &Front<A>) -> Front<A> {
    Front { root: Node::UNDECIDED.0, sieve: 0, ..*front }
}

/// Removes the lines from a slot.
fn clear<A: Indexed>(lists: &Lists<A>, slot: u32) -> Result<()> {
    match bpf::clear_inner_map(lists.indexes.as_fd(), slot) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(without().caused_by(error)),
        _ => Ok(()),
    }
}

fn new_lines<A: Indexed>(lines: &[A::Line]) -> io::Result<MapData> {
    let count = u32::try_from(lines.len()).map_err(io::Error::other)?;
    let map = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<A::Line>() as u32,
        count,
        BPF_F_MMAPABLE | BPF_F_INNER_MAP,
    );
    let map = MapData::create(map, "portguard_index", None).map_err(io::Error::other)?;
    Mapped::new(&map)?.write_all(lines);
    Ok(map)
}

fn write_front<A: Indexed>(lists: &Lists<A>, slot: u32, front: &Front<A>) {
    // SAFETY: the element is mapped and aligned; the slot is not in force, so the kernel program does not read it.
    unsafe { lists.fronts.element(slot).write_volatile(*front) };
}

fn without() -> Error {
    Error::failed("the list has no index in the kernel").remedy(
        "The list is in force, with exactly the same verdicts, but with many entries each packet costs more.",
    )
}

#[cfg(test)]
mod tests {
    use portguard_common::address::V4;

    use super::*;

    #[test]
    fn a_front_without_lines_leads_into_none() {
        let prefixes = (0..10_000_u32).map(|host| ((host << 12).to_be(), 32));
        let index = Index::<V4>::of(prefixes);
        assert!(!index.lines.is_empty() && index.front.sieve > 0 && index.is_complete());
        let front = without_lines(&index.front);
        assert_eq!((front.root, front.sieve, front.has_lines), (Node::UNDECIDED.0, 0, 0));
    }
}
