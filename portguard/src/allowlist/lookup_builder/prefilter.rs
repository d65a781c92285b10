//! Builds the filter and the hashed leaves of a long list: see [`portguard_common::prefilter`].

use std::ops::RangeInclusive;

use portguard_common::lookup::DIRECT_BITS;
use portguard_common::prefilter::{self, Place, Position};

use super::{Family, Range, Region};

/// A filter has at least so many bits for each region with addresses of the list, if it may become so large.
const BITS_PER_REGION: u64 = 16;
/// With fewer bits for each region, a filter would stop too few packets.
const LEAST_BITS_PER_REGION: u64 = 4;

/// A range with addresses in up to so many regions has a part in the leaf of each; the tables have the others.
const MOST_PARTS: u64 = 64;

/// The filter and the hashed leaves of a list.
pub(super) struct Prefilter<A: Family> {
    /// The binary logarithm of the number of bits in the filter.
    pub(super) bits: u32,
    /// The filter.
    pub(super) filter: Vec<A::Block>,
    /// The hashed leaves.
    pub(super) leaves: Vec<A::Block>,
    /// The ranges that are in none of the leaves, in order.
    pub(super) remaining: Vec<Range>,
}

impl<A: Family> Prefilter<A> {
    /// The prefilter of a list; `None` if it would be of no use.
    pub(super) fn of(ranges: &[Range]) -> Option<Self> {
        let ranges = &parts::<A>(ranges);
        let count = |regions: RangeInclusive<u64>| regions.end() - regions.start() + 1;
        let regions: u64 = groups::<A>(ranges).flat_map(undecided_regions::<A>).map(count).sum();
        let (least, most) = prefilter::BITS.into_inner();
        let bits = (least..most).find(|&bits| regions * BITS_PER_REGION <= 1 << bits).unwrap_or(most);
        if regions * LEAST_BITS_PER_REGION > 1 << bits {
            return None;
        }
        let mut filter = Filter::<A>::new(bits);
        let mut leaves = Leaves::<A>::for_ranges(ranges.len());
        let mut remaining = Vec::new();
        for group in groups::<A>(ranges) {
            let place = place::<A>(group);
            let before = remaining.len();
            remaining.extend(group.iter().filter(|range| !leaves.add(place, **range)));
            let in_tables = remaining.len() - before;
            for region in undecided_regions::<A>(group).flatten() {
                if in_tables < group.len() {
                    filter.add(region, place);
                }
                if in_tables > 0 {
                    filter.add(region, Place::Tables);
                }
            }
        }
        Some(Self { bits, filter: filter.blocks, leaves: leaves.blocks, remaining })
    }
}

/// The ranges, taken apart at the bounds of the regions.
fn parts<A: Family>(ranges: &[Range]) -> Vec<Range> {
    let mut parts = Vec::with_capacity(ranges.len());
    for range in ranges {
        let [first, last] = [range.first, range.last].map(|address| number(address, A::REGION_BITS));
        if last - first >= MOST_PARTS {
            parts.push(*range);
            continue;
        }
        parts.extend((first..=last).map(|region| {
            let region = Region::of(u128::from(region) << (128 - A::REGION_BITS), A::REGION_BITS);
            Range { first: range.first.max(region.first), last: range.last.min(region.last) }
        }));
    }
    parts
}

/// The ranges by their regions: those within the same region together, and each other one by itself.
fn groups<A: Family>(ranges: &[Range]) -> impl Iterator<Item = &[Range]> {
    let region = |range: &Range| common::<A>(*range, A::REGION_BITS);
    ranges.chunk_by(move |one, next| region(one).is_some_and(|number| region(next) == Some(number)))
}

/// Where the ranges of a group are, unless their leaves are full.
fn place<A: Family>(group: &[Range]) -> Place {
    if common::<A>(group[0], A::REGION_BITS).is_none() {
        Place::Tables
    } else if group.len() <= A::RANGES / 2 || A::SITE_BITS == A::REGION_BITS {
        Place::Region
    } else {
        Place::Site
    }
}

/// The first bits of the addresses of a range, if all of them have the same.
fn common<A: Family>(range: Range, bits: u32) -> Option<u64> {
    let [first, last] = [range.first, range.last].map(|address| number(address, bits));
    (first == last).then_some(first)
}

/// The first bits of an address.
fn number(address: u128, bits: u32) -> u64 {
    (address >> (128 - bits)) as u64
}

/// The regions with addresses of a group, without those that a hint of the direct table decides.
fn undecided_regions<A: Family>(group: &[Range]) -> impl Iterator<Item = RangeInclusive<u64>> {
    // Only a range that is alone covers all addresses that share a hint, and it may cover those of many hints.
    let Range { first, last } = group[0];
    let region = |address| number(address, A::REGION_BITS);
    let after = u128::MAX >> DIRECT_BITS;
    let [is_from_hint, is_to_hint] = [first & after == 0, last & after == after];
    let regions = if number(first, DIRECT_BITS) == number(last, DIRECT_BITS) {
        [(!is_from_hint || !is_to_hint).then(|| region(first)..=region(last)), None]
    } else {
        [
            (!is_from_hint).then(|| region(first)..=region(first | after)),
            (!is_to_hint).then(|| region(last & !after)..=region(last)),
        ]
    };
    regions.into_iter().flatten()
}

/// A filter that is being written.
struct Filter<A: Family> {
    bits: u32,
    blocks: Vec<A::Block>,
}

impl<A: Family> Filter<A> {
    fn new(bits: u32) -> Self {
        // A word has 64 bits, and a block as many words as nodes.
        Self { bits, blocks: vec![A::EMPTY; 1 << (bits - 6 - A::BLOCK_BITS)] }
    }

    /// Lets the filter tell that a place has ranges of a region.
    fn add(&mut self, region: u64, place: Place) {
        let position = Position::of::<A>(region, self.bits);
        self.blocks[position.block as usize].as_mut()[position.word] |= position.bits(place);
    }
}

/// Hashed leaves that are being written.
struct Leaves<A: Family> {
    blocks: Vec<A::Block>,
    /// The number of ranges in each.
    lengths: Vec<u8>,
}

impl<A: Family> Leaves<A> {
    /// As many that they are half full if they have all ranges of a list. One in twenty or fewer has no room for all of its
    /// ranges then.
    fn for_ranges(ranges: usize) -> Self {
        let count = ranges.div_ceil(A::RANGES / 2).max(1);
        let mut empty = A::EMPTY;
        for place in 0..A::RANGES {
            // This contains no address.
            A::write_range(&mut empty, place, u128::MAX, 0);
        }
        Self { blocks: vec![empty; count], lengths: vec![0; count] }
    }

    /// Adds a range to the leaf in which a search for that place looks. Ranges are added in their order. Returns false if it does
    /// not belong into a leaf, or the leaf is full.
    fn add(&mut self, place: Place, range: Range) -> bool {
        let number = match place {
            Place::Region => common::<A>(range, A::REGION_BITS),
            Place::Site => common::<A>(range, A::SITE_BITS),
            Place::Tables => None,
        };
        let Some(number) = number else { return false };
        let leaf = prefilter::leaf_of(number, self.blocks.len() as u32) as usize;
        let length = usize::from(self.lengths[leaf]);
        if length == A::RANGES {
            return false;
        }
        // The last range is repeated to fill the leaf.
        for place in length..A::RANGES {
            A::write_range(&mut self.blocks[leaf], place, range.first, range.last);
        }
        self.lengths[leaf] += 1;
        true
    }
}
