//! What stands in front of the tables of a long list: a filter, and leaves that are found by a hash.
//!
//! A *region* is all addresses with the same first [`Indexed::REGION_BITS`] bits, and a *site* those with the same first
//! [`Indexed::SITE_BITS`] bits. A range of addresses has one of three kinds of storage:
//!
//! - the *hashed leaf* of its region, whose number is a hash of the region's number, if there are only few ranges in the region;
//! - the hashed leaf of its site, if there are more;
//! - the tables, if it is not within one site then, if it has addresses in many regions, or if its leaf is full.
//!
//! The filter tells which storage has ranges of a region. It is a Bloom filter, and each of its keys is a region and a kind of
//! storage. A key sets four bits of one word (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007): two
//! for the region, and two for the storage. So a forged source is stopped after an access to one cache
//! line within 2 MiB, and most sources on the list are found after one more, unless the list is crowded into few sites. Searches
//! in the tables need three to five accesses anywhere in memory.
//!
//! The filter may name a storage that has no range of the region, but it never leaves out one. Leaves and tables compare whole
//! addresses, so such a mistake costs time, and does not change a verdict. The hash has no seed, so a sender can choose
//! addresses that pass the filter. A search for those takes all steps, and no more.

use crate::lookup::{Blocks, DirectTable, Indexed};

/// The limits of the binary logarithm of the number of bits in a filter: 4 KiB, and 2 MiB.
pub const BITS: core::ops::RangeInclusive<u32> = 15..=24;

/// What has ranges of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The hashed leaf of the region.
    Region,
    /// The hashed leaves of its sites.
    Site,
    /// The tables.
    Tables,
}

/// What a search in front of the tables has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The list covers the address; the number of the conditions, from the leaf.
    Covered(u32),
    /// The list does not cover the address.
    Denied,
    /// The tables decide.
    InTables,
}

/// The position of a region in a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The block, counted from the first block of the filter.
    pub block: u32,
    /// The word of that block.
    pub word: usize,
    /// The bits that are set in that word for each storage.
    common: u64,
    /// Two more bits, for [`Storage::Region`]. For another storage, they are rotated to the left.
    own: u64,
}

impl Position {
    /// The position of a region in a filter with 2^`bits` bits.
    #[inline(always)]
    pub fn of<A: Indexed>(region: u64, bits: u32) -> Self {
        let hash = hashed(region);
        let word = hash >> ((64 + 6 - bits) & 63);
        Self {
            block: (word >> A::BLOCK_BITS) as u32,
            word: word as usize & ((1 << A::BLOCK_BITS) - 1),
            common: 1 << (hash >> 40 & 63) | 1 << (hash >> 34 & 63),
            own: 1 << (hash >> 28 & 63) | 1 << (hash >> 22 & 63),
        }
    }

    /// The bits that are set in the word if a storage has ranges of the region.
    #[inline(always)]
    pub const fn bits(self, storage: Storage) -> u64 {
        self.common | self.own.rotate_left(storage as u32 * 21)
    }
}

/// What the filter says of a region.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    position: Position,
    word: u64,
}

impl Answer {
    /// Of the region of an address; `None` if the filter lacks a block.
    #[inline(always)]
    pub fn of<A: Indexed>(
        direct_table: &DirectTable<A>,
        blocks: &impl Blocks<A>,
        address: A,
    ) -> Option<Self> {
        let position = Position::of::<A>(region(address), direct_table.filter_bits);
        let block = blocks.block(direct_table.filter.wrapping_add(position.block))?;
        Some(Self { position, word: *block.as_ref().get(position.word)? })
    }

    /// Whether bits are missing that each storage sets: the list covers no address of the region.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.word & self.position.common != self.position.common
    }

    /// Whether this storage may have ranges of the region.
    #[inline(always)]
    pub const fn names(self, storage: Storage) -> bool {
        let bits = self.position.bits(storage);
        self.word & bits == bits
    }
}

/// Searches the hashed leaves; `None` if a block is missing.
#[inline(always)]
pub fn find<A: Indexed>(direct_table: &DirectTable<A>, blocks: &impl Blocks<A>, address: A) -> Option<Found> {
    let answer = Answer::of(direct_table, blocks, address)?;
    if answer.is_none() {
        return Some(Found::Denied);
    }
    let leaf = |number: u64| {
        blocks.block(direct_table.leaves.wrapping_add(leaf_of(number, direct_table.leaf_count)))
    };
    if answer.names(Storage::Region)
        && let Some(number) = direct_table.number_in(leaf(region(address))?, address)
    {
        return Some(Found::Covered(number));
    }
    if A::SITE_BITS > A::REGION_BITS
        && answer.names(Storage::Site)
        && let Some(number) = direct_table.number_in(leaf(site(address))?, address)
    {
        return Some(Found::Covered(number));
    }
    Some(if answer.names(Storage::Tables) { Found::InTables } else { Found::Denied })
}

/// The number of the hashed leaf of a region or a site, among `count` of them.
#[inline(always)]
pub fn leaf_of(number: u64, count: u32) -> u32 {
    ((hashed(number) >> 32).wrapping_mul(u64::from(count)) >> 32) as u32
}

/// The number of the region of an address: its first bits.
#[inline(always)]
fn region<A: Indexed>(address: A) -> u64 {
    address.half(false) >> (64 - A::REGION_BITS)
}

/// The number of the site of an address: its first bits.
#[inline(always)]
fn site<A: Indexed>(address: A) -> u64 {
    address.half(false) >> (64 - A::SITE_BITS)
}

/// Multiplicative hashing (Knuth, The Art of Computer Programming, section 6.4): the upper bits depend on all bits of a number.
#[inline(always)]
const fn hashed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
