//! The index: whether the allowlist covers an address, in a few nanoseconds and however long the list is.
//!
//! The tries of the kernel hold the list and can answer for any address, but an answer takes them longer the more
//! entries there are, and forged sources ask for a different one each time. The index stands in front of them. It is
//! built in user space from the same list (`portguard/src/index.rs`), and leaves to the tries what it cannot hold.
//!
//! The verdict needs no longest prefix: every entry allows. So a list is a set of disjoint ranges of addresses, and
//! the index is a way to the few ranges that are near an address:
//!
//! 1. The [`Front`] knows for the first 16 bits of an address whether all such addresses are covered, or none. It has
//!    16 KiB; the sources of a forged flood die here.
//! 2. For the others, the root [`Node`] of the front leads through *tables*, which take some bits of the address each,
//!    to a *leaf*, which has a few ranges to compare the whole address with.
//!
//! Tables may skip bits that all their ranges have in common. An address that differs in them still ends in a leaf that
//! does not have it, or at [`Node::DENIED`], because leaves hold whole ranges.
//!
//! Tables and leaves lie in lines of one or two cache lines ([`Indexed::Line`]). The lines of a list of up to a few
//! thousand entries follow the front; those of a longer one are in a map of their own, and take a call each to get at.
//!
//! The front of a long list leaves most addresses undecided. In front of its tables is a *sieve*: a bit for each block of
//! addresses ([`Indexed::sieve_bit`]) that says whether anything in the block is covered. Forged sources end there, in one
//! line of 2 MiB, instead of in three or four of all memory.

use crate::address::{Address, V4, V6};
use crate::layout::Shared;

/// The most tables on the way to a leaf. What would take more is left to the tries.
pub const MAX_DEPTH: usize = 8;

/// How many of the first bits of an address the front looks at.
pub const FRONT_BITS: u32 = 16;

/// How many lines fit into a [`Front`].
pub const LINES_IN_FRONT: usize = 1024;

/// How many bits a sieve has, as binary logarithm: 2 MiB. A million entries all over the internet leave at most one bit in
/// sixteen set.
pub const SIEVE_BITS: u32 = 24;

/// The first step of a look-up; one for each address family and slot of lists.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Front<A: Indexed> {
    /// Where to go on: a [`Node`].
    pub root: u64,
    /// 1 if the root leads into the lines below, 0 if it leads into the map.
    pub has_lines: u64,
    /// The line that the sieve begins in; 0 if there is none.
    pub sieve: u64,
    /// Zero: keeps what follows at a multiple of a cache line.
    pub reserved: [u64; 5],
    /// Two bits for each value of the first [`FRONT_BITS`] of an address, four values to a byte: one of [`mod@hint`].
    pub hints: [u8; 1 << (FRONT_BITS - 2)],
    /// Tables and leaves.
    pub lines: [A::Line; LINES_IN_FRONT],
}

// SAFETY: integers without padding (asserted below); zeroes leave everything to the tries.
unsafe impl<A: Indexed> Shared for Front<A> {}

const _: () = assert!(size_of::<Front<V4>>() == 64 + (1 << 14) + 64 * LINES_IN_FRONT);
const _: () = assert!(size_of::<Front<V6>>() == 64 + (1 << 14) + 128 * LINES_IN_FRONT);

impl<A: Indexed> Front<A> {
    /// A front without lines.
    pub const fn new(root: Node, hints: [u8; 1 << (FRONT_BITS - 2)]) -> Self {
        Self {
            root: root.0,
            has_lines: 0,
            sieve: 0,
            reserved: [0; 5],
            hints,
            lines: [A::EMPTY; LINES_IN_FRONT],
        }
    }
}

/// The lines in a front.
impl<A: Indexed> Lines<A> for Front<A> {
    #[inline(always)]
    fn line(&self, number: u32) -> Option<&A::Line> {
        self.lines.get(number as usize % LINES_IN_FRONT)
    }
}

/// What the front says.
pub mod hint {
    /// The root knows more.
    pub const UNDECIDED: u8 = 0;
    /// No such address is covered.
    pub const DENIED: u8 = 1;
    /// All such addresses are covered.
    pub const COVERED: u8 = 2;
}

/// A place in the index. The lowest three bits are the kind, the upper 32 the number of a line; for a table, bits 8 to
/// 15 are how many bits of the address it takes, bits 16 to 23 how many it skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(pub u64);

impl Node {
    /// Ask the tries.
    pub const UNDECIDED: Self = Self(0);
    /// No such address is covered.
    pub const DENIED: Self = Self(1);
    /// All such addresses are covered.
    pub const COVERED: Self = Self(2);

    const LEAF: u64 = 3;
    const TABLE: u64 = 4;

    /// A leaf in this line.
    pub fn leaf(line: u32) -> Self {
        Self(Self::LEAF | u64::from(line) << 32)
    }

    /// A table that begins in this line and takes `bits` bits of an address behind its first `skip`, all of them within
    /// one of its halves of 64 bits.
    pub fn table(line: u32, skip: u32, bits: u32) -> Self {
        debug_assert!(bits > 0 && skip % 64 + bits <= 64);
        Self(Self::TABLE | u64::from(bits) << 8 | u64::from(skip) << 16 | u64::from(line) << 32)
    }

    #[inline(always)]
    fn kind(self) -> u64 {
        self.0 & 7
    }

    #[inline(always)]
    fn line(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// An address as the index sees it.
pub trait Indexed: Address {
    /// Some ranges of a leaf, or some nodes of a table.
    type Line: Shared + core::fmt::Debug + AsRef<[u64]> + AsMut<[u64]>;

    /// A line of zeroes.
    const EMPTY: Self::Line;

    /// How many nodes a line holds, as binary logarithm.
    const LINE_BITS: u32;

    /// How many ranges a line holds.
    const RANGES: usize;

    /// The length of the prefix that a block of the sieve is.
    const SIEVE_PREFIX: u32;

    /// The 64 bits of the address behind its first 0 or 64, from the highest bit on.
    fn half(self, second: bool) -> u64;

    /// The bit of a sieve for the block of this number: the first [`Indexed::SIEVE_PREFIX`] bits of its addresses.
    /// Below 2^[`SIEVE_BITS`]. Several blocks may share it.
    fn sieve_bit(block: u64) -> u64;

    /// Whether one of the ranges of a leaf has the address. The ranges are in order, and the last one fills the line.
    fn is_in(self, leaf: &Self::Line) -> bool;
}

/// IPv4. A range is one word: the first address in its upper half, the last one in the lower.
impl Indexed for V4 {
    type Line = [u64; 8];

    const EMPTY: [u64; 8] = [0; 8];

    const LINE_BITS: u32 = 3;
    const RANGES: usize = 8;
    const SIEVE_PREFIX: u32 = SIEVE_BITS;

    #[inline(always)]
    fn sieve_bit(block: u64) -> u64 {
        block
    }

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
            if leaf[(at + step) & 7] >> 32 <= address {
                at += step;
            }
        }
        let range = leaf[at & 7];
        range >> 32 <= address && address <= range & 0xffff_ffff
    }
}

/// IPv6. A range is four words: the halves of the first address, and those of the last.
impl Indexed for V6 {
    type Line = [u64; 16];

    const EMPTY: [u64; 16] = [0; 16];

    const LINE_BITS: u32 = 4;
    const RANGES: usize = 4;
    /// What a site's provider has.
    const SIEVE_PREFIX: u32 = 32;

    #[inline(always)]
    fn sieve_bit(block: u64) -> u64 {
        // Multiplicative hashing (Knuth, The Art of Computer Programming, section 6.4). Whoever aims at the bits that are
        // set gets as far as the tables.
        block.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SIEVE_BITS)
    }

    #[inline(always)]
    fn half(self, second: bool) -> u64 {
        let [first, last] = self;
        u64::from_be(if second { last } else { first })
    }

    #[inline(always)]
    fn is_in(self, leaf: &[u64; 16]) -> bool {
        let (high, low) = (self.half(false), self.half(true));
        let begins_by = |range: usize| {
            let first = leaf[(range * 4) & 15];
            first < high || (first == high && leaf[(range * 4 + 1) & 15] <= low)
        };
        let mut at = 0;
        for step in [2, 1] {
            if begins_by(at + step) {
                at += step;
            }
        }
        let last = leaf[(at * 4 + 2) & 15];
        begins_by(at) && (high < last || (high == last && low <= leaf[(at * 4 + 3) & 15]))
    }
}

/// The lines of an index.
pub trait Lines<A: Indexed> {
    /// The line of this number; `None` if there is none.
    fn line(&self, number: u32) -> Option<&A::Line>;
}

/// What the front says about an address: one of [`mod@hint`].
#[inline(always)]
pub fn hint<A: Indexed>(front: &Front<A>, address: A) -> u8 {
    let first = (address.half(false) >> (64 - FRONT_BITS)) as usize;
    front.hints[first / 4 % front.hints.len()] >> (first % 4 * 2) & 3
}

/// Goes on where the front is undecided: whether the list covers the address; `None` if the tries have to say.
#[inline(always)]
pub fn search<A: Indexed>(front: &Front<A>, lines: &impl Lines<A>, address: A) -> Option<bool> {
    if front.sieve != 0 && is_sifted_out(front.sieve as u32, lines, address)? {
        return Some(false);
    }
    walk::<A, { MAX_DEPTH + 1 }>(Node(front.root), lines, address)
}

/// The same in the lines of the front, in no more than three steps, which short lists seldom take; `None` if that is not
/// enough, either.
#[inline(always)]
pub fn search_nearby<A: Indexed>(front: &Front<A>, address: A) -> Option<bool> {
    walk::<A, 3>(Node(front.root), front, address)
}

/// Whether the sieve that begins in line `first` says that no address of the block is covered.
#[inline(always)]
fn is_sifted_out<A: Indexed>(first: u32, lines: &impl Lines<A>, address: A) -> Option<bool> {
    let SieveBit { line, word, bit } = SieveBit::of::<A>(address.half(false) >> (64 - A::SIEVE_PREFIX));
    let line = lines.line(first.wrapping_add(line))?;
    Some(line.as_ref().get(word)? >> bit & 1 == 0)
}

/// Where the bit of a block is.
#[derive(Clone, Copy, Debug)]
pub struct SieveBit {
    /// In which line of the sieve.
    pub line: u32,
    /// In which word of the line.
    pub word: usize,
    /// In which bit of the word.
    pub bit: u32,
}

impl SieveBit {
    /// That of the block of this number, see [`Indexed::sieve_bit`].
    #[inline(always)]
    pub fn of<A: Indexed>(block: u64) -> Self {
        let bit = A::sieve_bit(block);
        // A line holds as many words as nodes.
        let word = (bit >> 6) as usize & ((1 << A::LINE_BITS) - 1);
        Self { line: (bit >> (6 + A::LINE_BITS)) as u32, word, bit: (bit & 63) as u32 }
    }
}

#[inline(always)]
fn walk<A: Indexed, const NODES: usize>(root: Node, lines: &impl Lines<A>, address: A) -> Option<bool> {
    let mut node = root;
    // The root, and a node in each of the tables.
    for _ in 0..NODES {
        match node.kind() {
            Node::TABLE => {
                let (bits, skip) = (node.0 >> 8 & 63, node.0 >> 16 & 127);
                // A table of no bits does not exist; the shift must stay below 64 all the same.
                let slot = address.half(skip >= 64) << (skip & 63) >> ((64 - bits) & 63);
                let line = lines.line(node.line().wrapping_add((slot >> A::LINE_BITS) as u32))?;
                node = Node(*line.as_ref().get(slot as usize & ((1 << A::LINE_BITS) - 1))?);
            }
            Node::LEAF => return Some(address.is_in(lines.line(node.line())?)),
            _ if node == Node::DENIED => return Some(false),
            _ if node == Node::COVERED => return Some(true),
            _ => return None,
        }
    }
    None
}
