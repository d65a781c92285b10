//! The maps with the lists of an instance.

use std::io;
use std::path::Path;

use aya::Pod;
use aya::maps::MapData;
use portguard_common::address::{V4, V6};
use portguard_common::entry::{self, Entry};
use portguard_common::layout::Shared;
use portguard_common::lookup::{DirectTable, Lookup};
use portguard_common::names;
use portguard_common::policy::SLOTS;

use crate::allowlist::lookup_builder;
use crate::error::{Error, Result};
use crate::guard::instance::{broken, open_map};
use crate::guard::mapped::Mapped;
use crate::guard::tries::Trie;

/// An address family that has lists.
pub(super) trait Listed:
    lookup_builder::Family<Wire: Pod + Ord + Sync + Send, Block: Send + Sync> + entry::Family
{
    /// The length of an address in bits.
    const WIDTH: u8;
    /// The name of the trie.
    const LIST: &'static str;
    /// The name of the entries.
    const ENTRIES: &'static str;
    /// The name of the blocks of the indexes.
    const BLOCKS: &'static str;

    /// The bytes of an address in network order.
    fn to_wire(self) -> Self::Wire;

    /// The offset of the direct table of a slot, in [`Lookup`].
    fn direct_table(slot: u32) -> usize;
}

impl Listed for V4 {
    const WIDTH: u8 = 32;
    const LIST: &'static str = names::LIST_V4;
    const ENTRIES: &'static str = names::ENTRIES_V4;
    const BLOCKS: &'static str = names::BLOCKS_V4;

    fn to_wire(self) -> [u8; 4] {
        self.to_ne_bytes()
    }

    fn direct_table(slot: u32) -> usize {
        std::mem::offset_of!(Lookup, v4) + slot as usize % SLOTS * size_of::<DirectTable<Self>>()
    }
}

impl Listed for V6 {
    const WIDTH: u8 = 128;
    const LIST: &'static str = names::LIST_V6;
    const ENTRIES: &'static str = names::ENTRIES_V6;
    const BLOCKS: &'static str = names::BLOCKS_V6;

    fn to_wire(self) -> [u8; 16] {
        let mut wire = [0; 16];
        let [first, second] = self.map(u64::to_ne_bytes);
        wire[..8].copy_from_slice(&first);
        wire[8..].copy_from_slice(&second);
        wire
    }

    fn direct_table(slot: u32) -> usize {
        std::mem::offset_of!(Lookup, v6) + slot as usize % SLOTS * size_of::<DirectTable<Self>>()
    }
}

/// The maps of an address family.
#[derive(Debug)]
pub(super) struct ListMaps<A: Listed> {
    /// The prefixes.
    pub(super) trie: Trie,
    /// What the trie leads to.
    pub(super) entries: Mapped<Entry<A>>,
    /// The blocks of the indexes: one half for each slot.
    blocks: MapData,
    /// Their number.
    block_count: u32,
}

impl<A: Listed> ListMaps<A> {
    /// Opens the maps of the instance in a directory.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let blocks = open_map(directory, A::BLOCKS)?;
        let info = blocks.info().map_err(|error| broken(directory, A::BLOCKS).caused_by(error))?;
        Ok(Self {
            trie: Trie::open(&directory.join(A::LIST))?,
            entries: open_mapped(directory, A::ENTRIES)?,
            block_count: info.max_entries(),
            blocks,
        })
    }

    /// The blocks, in memory.
    pub(super) fn blocks(&self) -> io::Result<Mapped<A::Block>> {
        Mapped::new(&self.blocks)
    }

    /// How many entries and blocks they have room for.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity { entries: self.entries.len(), blocks: self.block_count / SLOTS as u32 }
    }
}

/// Opens a map of the instance in a directory, and maps it into memory.
pub(super) fn open_mapped<T: Shared>(directory: &Path, name: &str) -> Result<Mapped<T>> {
    let map = open_map(directory, name)?;
    Mapped::new(&map).map_err(|error| broken(directory, name).caused_by(error))
}

/// How much of the lists of an address family fits into their maps, which cannot grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Prefixes: of the list in force, of the one that takes its place, and of those that were removed last.
    pub(super) entries: u32,
    /// Blocks of the index of one list.
    pub(super) blocks: u32,
}

impl Capacity {
    /// The fewest prefixes that there is room for.
    const LEAST: u32 = 1024;
    /// The index of a list can grow by one part in so many without new maps.
    const GROWTH: u32 = 16;

    /// Enough for a list with this many prefixes, and this many blocks that are not in its direct table; and for another list of the
    /// same length, which takes its place without new maps. To make maps for a million prefixes holds a CPU while the kernel
    /// clears their memory.
    pub(super) fn of(prefixes: usize, blocks: usize) -> Result<Self> {
        let number = |number: usize| {
            u32::try_from(number)
                .ok()
                .filter(|number| *number < entry::Number::LIMIT / 2)
                .ok_or_else(|| Error::failed("the list is too long"))
        };
        let (prefixes, blocks) = (number(prefixes)?, number(blocks)?);
        Ok(Self { entries: (2 * prefixes).max(Self::LEAST), blocks: (blocks + blocks / Self::GROWTH).max(1) })
    }
}
