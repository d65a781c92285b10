//! Writes the index of a list into the slot that is not in force: see [`portguard_common::lookup`].

use std::io;
use std::os::fd::AsFd as _;

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY};
use portguard_common::lookup::{DirectTable, Indexed, Node};

use crate::allowlist::lookup_builder::Index;
use crate::error::{Error, Result};
use crate::guard::bpf;
use crate::guard::instance::Lists;
use crate::guard::mapped::Mapped;

/// Writes an index into a slot that is not in force. After an error, the slot has a part of the index that gives right
/// results, and the tries decide for all other addresses.
pub(super) fn fill<A: Indexed>(lists: &Lists<A>, slot: u32, index: &Index<A>) -> Result<()> {
    write_direct_table(lists, slot, &without_blocks(&index.direct_table));
    if index.blocks.is_empty() {
        clear(lists, slot)?;
    } else {
        let blocks = new_blocks::<A>(&index.blocks).map_err(|error| without().caused_by(error))?;
        bpf::set_inner_map(lists.indexes.as_fd(), slot, blocks.fd().as_fd())
            .map_err(|error| without().caused_by(error))?;
    }
    write_direct_table(lists, slot, &index.direct_table);
    match index.is_complete() {
        true => Ok(()),
        false => Err(without().because("the index of such a list would take too much memory")),
    }
}

/// A direct table with its hints only. Its root and prefilter must be written after the blocks to which they refer: until then, the
/// slot may have the blocks of an earlier list.
fn without_blocks<A: Indexed>(direct_table: &DirectTable<A>) -> DirectTable<A> {
    DirectTable { root: Node::UNDECIDED.0, prefilter: 0, ..*direct_table }
}

/// Removes the blocks from a slot.
fn clear<A: Indexed>(lists: &Lists<A>, slot: u32) -> Result<()> {
    match bpf::clear_inner_map(lists.indexes.as_fd(), slot) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(without().caused_by(error)),
        _ => Ok(()),
    }
}

fn new_blocks<A: Indexed>(blocks: &[A::Block]) -> io::Result<MapData> {
    let count = u32::try_from(blocks.len()).map_err(io::Error::other)?;
    let map = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<A::Block>() as u32,
        count,
        BPF_F_MMAPABLE | BPF_F_INNER_MAP,
    );
    let map = MapData::create(map, "portguard_index", None).map_err(io::Error::other)?;
    Mapped::new(&map)?.write_all(blocks);
    Ok(map)
}

fn write_direct_table<A: Indexed>(lists: &Lists<A>, slot: u32, direct_table: &DirectTable<A>) {
    // SAFETY: the element is mapped and aligned; the slot is not in force, so the kernel program does not read it.
    unsafe { lists.direct_tables.element(slot).write_volatile(*direct_table) };
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
    fn a_front_without_blocks_leads_into_none() {
        let prefixes = (0..10_000_u32).map(|host| ((host << 12).to_be(), 32));
        let index = Index::<V4>::of(prefixes);
        assert!(!index.blocks.is_empty() && index.direct_table.prefilter > 0 && index.is_complete());
        let direct_table = without_blocks(&index.direct_table);
        assert_eq!(
            (direct_table.root, direct_table.prefilter, direct_table.has_blocks),
            (Node::UNDECIDED.0, 0, 0)
        );
    }
}
