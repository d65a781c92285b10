//! Writes the index of a list into the slot that is not in force: see [`portguard_common::lookup`].

use portguard_common::lookup::{DirectTable, Lookup, Node};

use crate::allowlist::lookup_builder::Index;
use crate::error::{Error, Result};
use crate::guard::list_maps::{ListMaps, Listed};
use crate::guard::mapped::Mapped;

/// Writes an index into a slot that is not in force.
///
/// # Errors
/// The index lacks its tables, and the trie decides for all addresses that a search in them would decide.
pub(super) fn fill<A: Listed>(
    lookup: &Mapped<Lookup>,
    maps: &ListMaps<A>,
    slot: u32,
    index: &Index<A>,
) -> Result<()> {
    let room = maps.capacity().blocks;
    let mut direct_table = index.direct_table.clone();
    direct_table.first_block = slot * room;
    let written = if index.blocks.is_empty() {
        Ok(())
    } else {
        // The caller has made the maps large enough.
        let blocks = &index.blocks[..index.blocks.len().min(room as usize)];
        maps.blocks().map(|memory| memory.write(direct_table.first_block, blocks))
    };
    if written.is_err() {
        direct_table.root = Node::UNDECIDED.0;
        direct_table.filter_bits = 0;
    }
    write(lookup, slot, &direct_table);
    written.map_err(|error| without().caused_by(error))?;
    match index.is_complete() {
        true => Ok(()),
        false => Err(without().because("the index of such a list would take too much memory")),
    }
}

fn write<A: Listed>(lookup: &Mapped<Lookup>, slot: u32, direct_table: &DirectTable<A>) {
    // SAFETY: the table is mapped and aligned; the slot is not in force, so the kernel program does not read it.
    unsafe {
        lookup.element(0).byte_add(A::direct_table(slot)).cast::<DirectTable<A>>().write(*direct_table);
    };
}

fn without() -> Error {
    Error::failed("the list has no index in the kernel").remedy(
        "The list is in force, with exactly the same verdicts, but with many entries each packet costs more.",
    )
}
