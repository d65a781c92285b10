//! Builds the index that stands in front of the tries: see [`portguard_common::index`]. Pure: prefixes in, memory out.

use portguard_common::address::{V4, V6};
use portguard_common::index::{
    FRONT_BITS, Front, Indexed, LINES_IN_FRONT, MAX_DEPTH, Node, SIEVE_BITS, SieveBit, hint,
};

/// What the lines of one index may take, in bytes. A list that needs more (none of the allowed length does that is not
/// made for it) is left to the tries where the front is undecided.
const BUDGET: usize = 256 << 20;

/// How many blocks a list may have addresses in to get a sieve: with more of its bits set, it would hold up too few.
const MOST_SIEVE_BLOCKS: u64 = 1 << (SIEVE_BITS - 2);

/// The most bits that a table takes: as many nodes as there can be entries.
const MOST_TABLE_BITS: u32 = 20;

/// An index in the memory of this process.
#[derive(Debug)]
pub struct Index<A: Indexed> {
    /// The first step, with the tables and leaves if they fit.
    pub front: Box<Front<A>>,
    /// The tables and leaves if they do not fit into the front.
    pub lines: Vec<A::Line>,
}

impl<A: Indexed> Index<A> {
    /// Whether it was made with all its tables and leaves, and not only with its front.
    pub fn is_complete(&self) -> bool {
        self.front.root != Node::UNDECIDED.0
    }
}

/// Addresses from `first` to `last`, whose bits are the upper ones of the 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u128,
    last: u128,
}

/// How an address family goes into the index.
pub trait Family: Indexed {
    /// The address as the upper bits of an integer, the lower ones zero.
    fn upper_bits(self) -> u128;

    /// Writes a range to its place in a leaf.
    fn put(leaf: &mut Self::Line, place: usize, first: u128, last: u128);
}

impl Family for V4 {
    fn upper_bits(self) -> u128 {
        u128::from(Self::from_be(self)) << 96
    }

    fn put(leaf: &mut [u64; 8], place: usize, first: u128, last: u128) {
        leaf[place] = ((first >> 96) << 32 | last >> 96) as u64;
    }
}

impl Family for V6 {
    fn upper_bits(self) -> u128 {
        let [first, last] = self.map(u64::from_be);
        u128::from(first) << 64 | u128::from(last)
    }

    fn put(leaf: &mut [u64; 16], place: usize, first: u128, last: u128) {
        let words = [(first >> 64) as u64, first as u64, (last >> 64) as u64, last as u64];
        leaf[place * 4..][..4].copy_from_slice(&words);
    }
}

impl<A: Family> Index<A> {
    /// The index of a list of prefixes (network address and length), which are in the order of their addresses.
    pub fn of(prefixes: impl IntoIterator<Item = (A, u8)>) -> Self {
        let ranges = ranges(prefixes);
        let mut builder = Builder::<A> { lines: Vec::new(), leaf: None };
        let root = builder.node(&ranges, Block::ALL, true, 0);
        let (root, mut lines) = match builder.is_within_budget() {
            true => (root, builder.lines),
            false => (Node::UNDECIDED, Vec::new()),
        };
        let mut front = Box::new(Front::new(root, [0; 1 << (FRONT_BITS - 2)]));
        write_hints(&mut front.hints, &ranges);
        if lines.len() <= LINES_IN_FRONT {
            front.lines[..lines.len()].copy_from_slice(&lines);
            front.has_lines = 1;
            lines = Vec::new();
        } else if let Some(sieve) = sieve::<A>(&ranges) {
            front.sieve = lines.len() as u64;
            lines.extend(sieve);
        }
        Self { front, lines }
    }
}

/// The prefixes as ranges that neither overlap nor touch, in order.
fn ranges<A: Family>(prefixes: impl IntoIterator<Item = (A, u8)>) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (address, length) in prefixes {
        let Block { first, last } = Block::of(address.upper_bits(), length.into());
        match ranges.last_mut() {
            Some(before) if first <= before.last.saturating_add(1) => before.last = before.last.max(last),
            _ => ranges.push(Range { first, last }),
        }
    }
    ranges
}

/// All addresses that have their first bits in common.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: u128,
    last: u128,
}

impl Block {
    const ALL: Self = Self { first: 0, last: u128::MAX };

    fn of(first: u128, length: u32) -> Self {
        Self { first, last: first | u128::MAX.checked_shr(length).unwrap_or(0) }
    }

    /// Those of the ranges that have addresses of the block.
    fn among(self, ranges: &[Range]) -> &[Range] {
        let start = ranges.partition_point(|range| range.last < self.first);
        let length = ranges[start..].partition_point(|range| range.first <= self.last);
        &ranges[start..start + length]
    }

    fn is_within(self, range: Range) -> bool {
        range.first <= self.first && self.last <= range.last
    }
}

/// Two bits for each value of the first bits of an address.
fn write_hints(hints: &mut [u8], ranges: &[Range]) {
    for value in 0..1_usize << FRONT_BITS {
        let block = Block::of((value as u128) << (128 - FRONT_BITS), FRONT_BITS);
        let hint = match block.among(ranges) {
            [] => hint::DENIED,
            [range] if block.is_within(*range) => hint::COVERED,
            _ => hint::UNDECIDED,
        };
        hints[value / 4] |= hint << (value % 4 * 2);
    }
}

/// The lines of the sieve; `None` if it would be of no use.
fn sieve<A: Family>(ranges: &[Range]) -> Option<Vec<A::Line>> {
    let block = |address: u128| (address >> (128 - A::SIEVE_PREFIX)) as u64;
    let blocks = || ranges.iter().map(|range| block(range.first)..=block(range.last));
    if blocks().map(|blocks| blocks.end() - blocks.start() + 1).sum::<u64>() > MOST_SIEVE_BLOCKS {
        return None;
    }
    // A word has 64 bits, and a line as many words as nodes.
    let mut lines = vec![A::EMPTY; 1 << (SIEVE_BITS - 6 - A::LINE_BITS)];
    for block in blocks().flatten() {
        let SieveBit { line, word, bit } = SieveBit::of::<A>(block);
        lines[line as usize].as_mut()[word] |= 1 << bit;
    }
    Some(lines)
}

struct Builder<A: Family> {
    lines: Vec<A::Line>,
    /// The last leaf with a single range: neighbours often have the same.
    leaf: Option<(Range, Node)>,
}

impl<A: Family> Builder<A> {
    fn is_within_budget(&self) -> bool {
        size_of_val(self.lines.as_slice()) <= BUDGET
    }

    /// The node of a block, of which `ranges` are those that have addresses of it. `is_exact`: no address outside of
    /// the block gets here, because no table above has skipped bits.
    fn node(&mut self, ranges: &[Range], block: Block, is_exact: bool, depth: usize) -> Node {
        match ranges {
            [] => Node::DENIED,
            [range] if is_exact && block.is_within(*range) => Node::COVERED,
            ranges if ranges.len() <= A::RANGES => self.leaf(ranges),
            _ if depth == MAX_DEPTH || !self.is_within_budget() => Node::UNDECIDED,
            ranges => self.table(ranges, block, is_exact, depth),
        }
    }

    fn leaf(&mut self, ranges: &[Range]) -> Node {
        if let ([range], Some((same, leaf))) = (ranges, self.leaf)
            && *range == same
        {
            return leaf;
        }
        let mut line = A::EMPTY;
        let places = ranges.iter().chain(std::iter::repeat(&ranges[ranges.len() - 1]));
        for (place, range) in (0..A::RANGES).zip(places) {
            A::put(&mut line, place, range.first, range.last);
        }
        let leaf = Node::leaf(self.lines.len() as u32);
        self.lines.push(line);
        self.leaf = (ranges.len() == 1).then(|| (ranges[0], leaf));
        leaf
    }

    fn table(&mut self, ranges: &[Range], block: Block, is_exact: bool, depth: usize) -> Node {
        // What the block has of them: a range may begin before it and end behind it.
        let first = ranges[0].first.max(block.first);
        let last = ranges[ranges.len() - 1].last.min(block.last);
        let fixed = (block.first ^ block.last).leading_zeros();
        let skip = (first ^ last).leading_zeros();
        // Leaves half full on average; all bits within one half of the address.
        let wanted = (ranges.len() * 2 / A::RANGES).next_power_of_two().ilog2();
        let bits = wanted.clamp(1, MOST_TABLE_BITS).min(64 - skip % 64);

        let start = self.lines.len();
        let slots = 1_usize << bits;
        self.lines.resize(start + slots.div_ceil(1 << A::LINE_BITS), A::EMPTY);
        let is_exact = is_exact && skip == fixed;
        let mut rest = ranges;
        for slot in 0..slots {
            let prefix = first & !u128::MAX.checked_shr(skip).unwrap_or(0);
            let block = Block::of(prefix | (slot as u128) << (128 - skip - bits), skip + bits);
            let within = block.among(rest);
            let node = self.node(within, block, is_exact, depth + 1);
            // What ends before the next block is of no more use.
            let done = rest.partition_point(|range| range.last <= block.last);
            rest = &rest[done..];
            let line = self.lines[start + (slot >> A::LINE_BITS)].as_mut();
            line[slot & ((1 << A::LINE_BITS) - 1)] = node.0;
        }
        Node::table(start as u32, skip, bits)
    }
}
