//! The index: it tells in a few nanoseconds whether the allowlist covers an address, however long the list is.
//!
//! The kernel's tries hold the list and decide for any address. Their look-ups slow down as the list grows, and forged
//! sources take a different path through the trie each time. The index stands in front of the tries. It is built in user
//! space from the same list (`portguard/src/allowlist/lookup_builder.rs`), and leaves to the tries what it cannot hold.
//!
//! The verdict needs no longest prefix if every entry allows. Such a list is a set of disjoint ranges of
//! addresses, and the index finds the few ranges that are near an address. It is a level-compressed trie (Nilsson and
//! Karlsson, "IP-Address Lookup Using LC-Tries", 1999) behind a table that is indexed directly:
//!
//! 1. The [`DirectTable`] has a *hint* for each value of the first 16 bits of an address: the list covers all addresses that
//!    begin with them, or none, or the hint does not decide. The hints take 16 KiB. They decide most sources of a
//!    forged flood, unless the list is long.
//! 2. For the other addresses, a search begins at the root [`Node`] of the direct table. It passes *tables*, each of which is
//!    indexed by some bits of the address, and ends in a *leaf*. A leaf has a few ranges, with which the whole address
//!    is compared.
//!
//! Tables may skip bits that all their ranges have in common. The search for an address that differs in these bits still
//! ends in a leaf that does not contain the address, or at [`Node::DENIED`], because leaves hold whole ranges.
//!
//! The index of a list whose entries have conditions has ranges by the conditions of the entry that decides, and beside each range the *number
//! of the conditions*: so these are found without the trie. The number is 0 where nothing is restricted, and otherwise one more than the number
//! of an entry ([`crate::entry`]) that has these conditions: of the entry that decides if it has a rate, else of the first one. Entries with
//! conditions have the first numbers.
//!
//! Tables and leaves are stored in *blocks*, each of one or two cache lines ([`Indexed::Block`]). The blocks of a list of up
//! to a few thousand entries are in the direct table. Those of a longer list are in a map of their own, and each access to one
//! takes a call.
//!
//! The direct table of a long list leaves most addresses undecided, and its tables are larger than the caches. A *prefilter*
//! stands in front of them: see [`crate::prefilter`].

use crate::address::{Address, V4, V6};
use crate::layout::Shared;
use crate::policy::SLOTS;
use crate::prefilter::{self, Answer, Found};

/// The most tables between the root and a leaf. The tries decide for addresses that would need more.
pub const MAX_DEPTH: usize = 8;

/// How many of the first bits of an address select its hint in the direct table.
pub const DIRECT_BITS: u32 = 16;

/// The number of blocks that fit into a [`DirectTable`].
pub const BLOCKS_IN_DIRECT_TABLE: usize = 1024;

/// All that the look-up of a source begins with: the only value of its map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Lookup {
    /// The slot whose list is in force.
    pub active: u32,
    /// Where the conditions of the lists are, by slot.
    pub conditions: [WithConditions; SLOTS],
    /// Zero. It keeps the tables at multiples of a cache line.
    pub reserved: [u32; 11],
    /// The direct tables of the IPv4 lists, by slot.
    pub v4: [DirectTable<V4>; SLOTS],
    /// The direct tables of the IPv6 lists, by slot.
    pub v6: [DirectTable<V6>; SLOTS],
}

impl Lookup {
    /// No list.
    pub const EMPTY: Self = Self {
        active: 0,
        conditions: [WithConditions { first: 0, count: 0 }; SLOTS],
        reserved: [0; 11],
        v4: [DirectTable::new(Node::UNDECIDED, [0; 1 << (DIRECT_BITS - 2)]); SLOTS],
        v6: [DirectTable::new(Node::UNDECIDED, [0; 1 << (DIRECT_BITS - 2)]); SLOTS],
    };
}

// SAFETY: integers without padding (asserted below); zeroes are an empty list in slot 0, which covers no source.
unsafe impl Shared for Lookup {}

const _: () = assert!(
    size_of::<Lookup>() == 64 + SLOTS * (size_of::<DirectTable<V4>>() + size_of::<DirectTable<V6>>())
);

/// The entries of a list that have conditions. They have the first numbers of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WithConditions {
    /// The place of the first one's conditions in [`crate::names::CONDITIONS`].
    pub first: u32,
    /// Their number.
    pub count: u32,
}

// SAFETY: two integers of the same size; zeroes are a list without conditions.
unsafe impl Shared for WithConditions {}

/// The first steps of a look-up in a list. There is a direct table for each address family and slot.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DirectTable<A: Indexed> {
    /// The [`Node`] at which a search begins.
    pub root: u64,
    /// How the blocks are kept: a sum of the values in [`mod@form`].
    pub form: u32,
    /// The number of the first block of the index in the map. All other numbers of blocks count from there.
    pub first_block: u32,
    /// The number of the block in which the filter of the prefilter begins.
    pub filter: u32,
    /// The binary logarithm of the number of bits in the filter; 0 if there is no prefilter.
    pub filter_bits: u32,
    /// The number of the first hashed leaf of the prefilter.
    pub leaves: u32,
    /// The number of hashed leaves.
    pub leaf_count: u32,
    /// The root taken apart, if it is a table that one half of the address indexes: see [`RootTable`].
    pub root_table: RootTable,
    /// Two bits for each value of the first [`DIRECT_BITS`] bits of an address: one of [`mod@hint`]. A byte has four
    /// hints, the first of them in its lowest bits.
    pub hints: [u8; 1 << (DIRECT_BITS - 2)],
    /// The blocks, if `form` says so.
    pub blocks: [A::Block; BLOCKS_IN_DIRECT_TABLE],
}

// SAFETY: integers without padding (asserted below); zeroes leave everything to the tries.
unsafe impl<A: Indexed> Shared for DirectTable<A> {}

const _: () = assert!(size_of::<DirectTable<V4>>() == 64 + (1 << 14) + 64 * BLOCKS_IN_DIRECT_TABLE);
const _: () = assert!(size_of::<DirectTable<V6>>() == 64 + (1 << 14) + 128 * BLOCKS_IN_DIRECT_TABLE);

/// The table at the root of an index, in the form in which it takes the fewest instructions to find a node of it. Nearly
/// every list has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RootTable {
    /// How far the first half of an address is shifted to the right.
    pub shift: u64,
    /// Which bits then select the node; 0 if the root is no table, or the second half of the address indexes it.
    pub mask: u64,
    /// The number of the first block.
    pub block: u64,
    /// Zero.
    pub reserved: u64,
}

// SAFETY: integers of the same size; zeroes are no table.
unsafe impl Shared for RootTable {}

impl RootTable {
    const NONE: Self = Self { shift: 0, mask: 0, block: 0, reserved: 0 };

    /// The root table of an index whose search begins at a node.
    pub const fn of(root: Node) -> Self {
        let (bits, skip) = (root.0 >> 8 & 63, root.0 >> 16 & 127);
        if root.kind() != Node::TABLE || skip + bits > 64 {
            return Self::NONE;
        }
        Self { shift: 64 - skip - bits, mask: (1 << bits) - 1, block: root.block() as u64, reserved: 0 }
    }
}

impl<A: Indexed> DirectTable<A> {
    /// A direct table without blocks.
    pub const fn new(root: Node, hints: [u8; 1 << (DIRECT_BITS - 2)]) -> Self {
        Self {
            root: root.0,
            form: 0,
            first_block: 0,
            filter: 0,
            filter_bits: 0,
            leaves: 0,
            leaf_count: 0,
            root_table: RootTable::of(root),
            hints,
            blocks: [A::EMPTY; BLOCKS_IN_DIRECT_TABLE],
        }
    }
}

impl<A: Indexed> DirectTable<A> {
    /// The number of the conditions beside the range of a leaf of this index that contains the address.
    #[inline(always)]
    pub(crate) fn number_in(&self, leaf: &A::Block, address: A) -> Option<u32> {
        match self.form & form::CONDITIONS {
            0 => address.is_in(leaf).then_some(0),
            _ => address.number_in(leaf),
        }
    }
}

impl<A: Indexed> Blocks<A> for DirectTable<A> {
    #[inline(always)]
    fn block(&self, number: u32) -> Option<&A::Block> {
        self.blocks.get(number as usize % BLOCKS_IN_DIRECT_TABLE)
    }
}

/// The values in [`DirectTable::form`].
pub mod form {
    /// The blocks are in the direct table, and not in the map.
    pub const DIRECT: u32 = 1;
    /// The leaves have the numbers of conditions: see [`super::search`]. Without it, a range stands for all entries that cover it, and
    /// these have no conditions.
    pub const CONDITIONS: u32 = 2;
}

/// The values of the hints in [`DirectTable::hints`].
pub mod hint {
    /// The hint does not decide: the search from the root does.
    pub const UNDECIDED: u8 = 0;
    /// The list covers no address with these first bits.
    pub const DENIED: u8 = 1;
    /// The list covers all addresses with these first bits, without conditions.
    pub const COVERED: u8 = 2;
}

/// A reference to a table or a leaf, or a decision. The lowest three bits are the kind, and the upper 32 bits the number
/// of a block. For a table, bits 8 to 15 are the number of address bits that index it, and bits 16 to 23 the number of
/// address bits before those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub u64);

impl Node {
    /// The tries decide.
    pub const UNDECIDED: Self = Self(0);
    /// The list covers no address that leads to this node.
    pub const DENIED: Self = Self(1);
    /// The list covers all addresses that lead to this node, without conditions.
    pub const COVERED: Self = Self(2);

    const LEAF: u64 = 3;
    const TABLE: u64 = 4;

    /// A reference to the leaf in this block.
    pub fn leaf(block: u32) -> Self {
        Self(Self::LEAF | u64::from(block) << 32)
    }

    /// A reference to the table that begins in this block. The first `skip` bits of an address do not matter to it, and
    /// the `bits` bits after them index it. Those must be in the same half of 64 bits.
    pub fn table(block: u32, skip: u32, bits: u32) -> Self {
        debug_assert!(bits > 0 && skip % 64 + bits <= 64);
        Self(Self::TABLE | u64::from(bits) << 8 | u64::from(skip) << 16 | u64::from(block) << 32)
    }

    #[inline(always)]
    const fn kind(self) -> u64 {
        self.0 & 7
    }

    #[inline(always)]
    const fn block(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// As the result of [`search`], for a node that is no reference.
    #[inline(always)]
    const fn decision(self) -> Option<Option<u32>> {
        match self {
            Self::DENIED => Some(None),
            Self::COVERED => Some(Some(0)),
            _ => None,
        }
    }
}

/// An address that an index can hold, with the layout of that index.
pub trait Indexed: Address {
    /// A unit of storage: the ranges of a leaf, some nodes of a table, or some words of a filter.
    type Block: Shared + core::fmt::Debug + AsRef<[u64]> + AsMut<[u64]>;

    /// A block of zeroes.
    const EMPTY: Self::Block;

    /// The binary logarithm of the number of nodes in a block.
    const BLOCK_BITS: u32;

    /// The number of ranges in a leaf.
    const RANGES: usize;

    /// The number of ranges in a leaf that has the numbers of conditions.
    const RANGES_WITH_NUMBERS: usize;

    /// The length of the prefixes that are the regions of a prefilter; at least [`DIRECT_BITS`].
    const REGION_BITS: u32;

    /// The length of the prefixes that are the sites of a prefilter; at most 64, and [`Self::REGION_BITS`] if there are no sites.
    const SITE_BITS: u32;

    /// The first 64 bits of the address, or the 64 bits after them if `second`, as an integer in host byte order. The
    /// first bit is the highest one. Bits after the end of the address are zero.
    fn half(self, second: bool) -> u64;

    /// Whether one of the ranges of a leaf contains the address. The ranges are in ascending order. Behind them is the last one
    /// again, or ranges that begin at the last address and end before it.
    fn is_in(self, leaf: &Self::Block) -> bool;

    /// The number of the conditions beside the range of a leaf that contains the address. As for [`Self::is_in`], with other leaves.
    fn number_in(self, leaf: &Self::Block) -> Option<u32>;
}

/// In a leaf, a range is one word: its first address in the upper half, and its last one in the lower half. Numbers of conditions come
/// after the ranges, two in a word, the first in its lower half.
impl Indexed for V4 {
    type Block = [u64; 8];

    const EMPTY: [u64; 8] = [0; 8];

    const BLOCK_BITS: u32 = 3;
    const RANGES: usize = 8;
    const RANGES_WITH_NUMBERS: usize = 5;

    const REGION_BITS: u32 = 24;
    const SITE_BITS: u32 = 24;

    #[inline(always)]
    fn half(self, second: bool) -> u64 {
        if second { 0 } else { u64::from(Self::from_be(self)) << 32 }
    }

    #[inline(always)]
    fn is_in(self, leaf: &[u64; 8]) -> bool {
        let address = u64::from(Self::from_be(self));
        // The last range that begins at the address or before it.
        let mut at = 0;
        for step in [4, 2, 1] {
            // Without a branch, which could not be predicted: all bits are set if the range begins by the address, else none.
            let begins_by = (address.wrapping_sub(leaf[(at + step) & 7] >> 32) >> 63).wrapping_sub(1);
            at += step & begins_by as usize;
        }
        let range = leaf[at & 7];
        range >> 32 <= address && address <= range & 0xffff_ffff
    }

    #[inline(always)]
    fn number_in(self, leaf: &[u64; 8]) -> Option<u32> {
        let address = u64::from(Self::from_be(self));
        let begun = leaf[..Self::RANGES_WITH_NUMBERS].iter().filter(|range| **range >> 32 <= address).count();
        let at = begun.checked_sub(1)?;
        (address <= leaf[at & 7] & 0xffff_ffff).then(|| half_word(leaf[(5 + at / 2) & 7], at))
    }
}

/// A leaf has the first halves of the first addresses of its ranges, then those of the last ones, and then the second halves in
/// the same order. Most searches access only the first cache line. Numbers of conditions come after the ranges, two in a
/// word.
impl Indexed for V6 {
    type Block = [u64; 16];

    const EMPTY: [u64; 16] = [0; 16];

    const BLOCK_BITS: u32 = 4;
    const RANGES: usize = 4;
    const RANGES_WITH_NUMBERS: usize = 3;

    /// The usual prefix of a provider.
    const REGION_BITS: u32 = 32;
    /// The usual prefix of a provider's customer.
    const SITE_BITS: u32 = 48;

    #[inline(always)]
    fn half(self, second: bool) -> u64 {
        let [first, last] = self;
        u64::from_be(if second { last } else { first })
    }

    #[inline(always)]
    fn is_in(self, leaf: &[u64; 16]) -> bool {
        let (high, low) = (self.half(false), self.half(true));
        let begins_by = |range: usize| {
            let first = leaf[range & 3];
            first < high || (first == high && leaf[8 + (range & 3)] <= low)
        };
        let mut at = 0;
        for step in [2, 1] {
            if begins_by(at + step) {
                at += step;
            }
        }
        let last = leaf[4 + (at & 3)];
        begins_by(at) && (high < last || (high == last && low <= leaf[12 + (at & 3)]))
    }

    #[inline(always)]
    fn number_in(self, leaf: &[u64; 16]) -> Option<u32> {
        let address = (self.half(false), self.half(true));
        let begun = (0..Self::RANGES_WITH_NUMBERS).filter(|at| (leaf[*at], leaf[6 + at]) <= address).count();
        let at = begun.checked_sub(1)?;
        let last = (leaf[(3 + at) & 15], leaf[(9 + at) & 15]);
        (address <= last).then(|| half_word(leaf[(12 + at / 2) & 15], at))
    }
}

/// The lower half of a word for an even number, and the upper one for an odd number.
#[inline(always)]
const fn half_word(word: u64, number: usize) -> u32 {
    (word >> (32 * (number & 1))) as u32
}

/// Access to the blocks of an index.
pub trait Blocks<A: Indexed> {
    /// The block with this number; `None` if there is none.
    fn block(&self, number: u32) -> Option<&A::Block>;
}

/// The hint of the direct table for an address: one of [`mod@hint`].
#[inline(always)]
pub fn hint<A: Indexed>(direct_table: &DirectTable<A>, address: A) -> u8 {
    let first = (address.half(false) >> (64 - DIRECT_BITS)) as usize;
    direct_table.hints[first / 4 % direct_table.hints.len()] >> (first % 4 * 2) & 3
}

/// The number of the conditions of the longest entry that covers an address for which the hint does not decide; `Some(None)` if none
/// does, and `None` if the trie must decide.
#[inline(always)]
pub fn search<A: Indexed>(
    direct_table: &DirectTable<A>,
    blocks: &impl Blocks<A>,
    address: A,
) -> Option<Option<u32>> {
    if direct_table.filter_bits != 0 {
        match prefilter::find(direct_table, blocks, address)? {
            Found::Covered(number) => return Some(Some(number)),
            Found::Denied => return Some(None),
            Found::InTables => {}
        }
    }
    match walk::<A, { MAX_DEPTH + 1 }>(Node(direct_table.root), blocks, address)? {
        End::Leaf(leaf) => Some(direct_table.number_in(leaf, address)),
        End::Node(node) => node.decision(),
    }
}

/// As [`search`], for an index whose blocks are in the direct table, and in at most three steps. Short lists seldom take as many.
/// `number_in` finds the number in a leaf. `None` also if three steps are not enough.
#[inline(always)]
pub fn search_nearby<A: Indexed>(
    direct_table: &DirectTable<A>,
    address: A,
    number_in: impl Fn(&A::Block) -> Option<u32>,
) -> Option<Option<u32>> {
    let RootTable { shift, mask, block, .. } = direct_table.root_table;
    if mask == 0 {
        return walk::<A, 3>(Node(direct_table.root), direct_table, address)?.number(number_in);
    }
    let slot = address.half(false) >> (shift & 63) & mask;
    let block = direct_table.block((block as u32).wrapping_add((slot >> A::BLOCK_BITS) as u32))?;
    let node = *block.as_ref().get(slot as usize & ((1 << A::BLOCK_BITS) - 1))?;
    walk::<A, 2>(Node(node), direct_table, address)?.number(number_in)
}

/// Whether the list covers no address in the region of `address`, by its prefilter.
#[inline(always)]
pub fn is_filtered_out<A: Indexed>(
    direct_table: &DirectTable<A>,
    blocks: &impl Blocks<A>,
    address: A,
) -> bool {
    direct_table.filter_bits != 0 && Answer::of(direct_table, blocks, address).is_some_and(Answer::is_none)
}

/// Where a walk through the tables ends.
enum End<'b, B> {
    Leaf(&'b B),
    Node(Node),
}

impl<B> End<'_, B> {
    /// As the result of [`search`] for the address that has led here; `number_in` finds the number in a leaf.
    #[inline(always)]
    fn number(&self, number_in: impl Fn(&B) -> Option<u32>) -> Option<Option<u32>> {
        match self {
            Self::Leaf(leaf) => Some(number_in(leaf)),
            Self::Node(node) => node.decision(),
        }
    }
}

#[inline(always)]
fn walk<A: Indexed, const NODES: usize>(
    root: Node,
    blocks: &impl Blocks<A>,
    address: A,
) -> Option<End<'_, A::Block>> {
    let mut node = root;
    // One round for the root, and one for the node from each table.
    for _ in 0..NODES {
        match node.kind() {
            Node::TABLE => {
                let (bits, skip) = (node.0 >> 8 & 63, node.0 >> 16 & 127);
                // No table is indexed by zero bits, but the shift must be below 64 in any case.
                let slot = address.half(skip >= 64) << (skip & 63) >> ((64 - bits) & 63);
                let block = blocks.block(node.block().wrapping_add((slot >> A::BLOCK_BITS) as u32))?;
                node = Node(*block.as_ref().get(slot as usize & ((1 << A::BLOCK_BITS) - 1))?);
            }
            Node::LEAF => return Some(End::Leaf(blocks.block(node.block())?)),
            _ => return Some(End::Node(node)),
        }
    }
    None
}
