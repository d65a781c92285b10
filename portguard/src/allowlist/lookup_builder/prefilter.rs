//! Builds the filter and the hashed leaves of a long list: see [`portguard_common::prefilter`].

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use portguard_common::lookup::DIRECT_BITS;
use portguard_common::prefilter::{self, Position, Storage};

use super::ranges::{Annotation, Range, Region};
use super::{BUDGET, Family};

/// A filter has at least so many bits for each region with addresses of the list, if it may become so large.
const BITS_PER_REGION: u64 = 16;
/// With fewer bits for each region, a filter would stop too few packets.
const LEAST_BITS_PER_REGION: u64 = 4;

/// A range with addresses in up to so many regions has a part in the leaf of each; the tables have the others.
const MOST_PARTS: u64 = 64;
/// The most bytes for hashed leaves: half of the budget of an index.
const MOST_BYTES: usize = BUDGET / 2;

/// The last address of either family. Ranges that contain nothing begin at it, so no range with it is in a leaf.
const LAST_ADDRESS: u128 = u128::MAX;

/// The filter and the hashed leaves of a list.
pub(super) struct Prefilter<A: Family, T> {
    pub(super) filter: Filter<A>,
    /// The hashed leaves.
    pub(super) leaves: Vec<A::Block>,
    /// The ranges that are in none of the leaves, in order.
    pub(super) remaining: Vec<Range<T>>,
}

impl<A: Family, T: Annotation> Prefilter<A, T> {
    /// The prefilter of a list; `None` if it would be of no use.
    pub(super) fn of(ranges: &[Range<T>]) -> Option<Self> {
        let (mut parts, mut regions) = (0, 0);
        // Of a region or a site, no more ranges than a leaf has room for.
        let (mut number, mut parts_of_number) = (None, 0);
        for range in ranges {
            let Some((first, last)) = few_regions::<A, _>(range) else {
                let count = |regions: RangeInclusive<u64>| regions.end() - regions.start() + 1;
                regions += undecided_regions::<A, _>(range).map(count).sum::<u64>();
                continue;
            };
            regions += last - first + 1;
            if common(range, A::SITE_BITS).is_none_or(|site| number != Some(site)) {
                (number, parts_of_number) = (common(range, A::SITE_BITS), 0);
            }
            if parts_of_number < T::ranges::<A>() {
                parts += (last - first + 1) as usize;
            }
            parts_of_number += 1;
        }
        let (least, most) = prefilter::BITS.into_inner();
        let bits = (least..most).find(|&bits| regions * BITS_PER_REGION <= 1 << bits).unwrap_or(most);
        let leaves = Leaves::<A, T>::count(parts);
        if regions * LEAST_BITS_PER_REGION > 1 << bits || leaves * size_of::<A::Block>() > MOST_BYTES {
            return None;
        }
        let mut writer =
            Writer { filter: Filter::<A>::new(bits), leaves: Leaves::new(leaves), remaining: Vec::new() };
        // The parts of ranges in the same region.
        let (mut group, mut group_region) = (Vec::new(), 0);
        for range in ranges {
            let Some((first, last)) = few_regions::<A, _>(range) else {
                writer.add_long(*range);
                continue;
            };
            for region in first..=last {
                if region != group_region {
                    writer.add(group_region, &group);
                    group.clear();
                    group_region = region;
                }
                let region = Region::of(u128::from(region) << (128 - A::REGION_BITS), A::REGION_BITS);
                group.push(Range {
                    first: range.first.max(region.first),
                    last: range.last.min(region.last),
                    annotation: range.annotation,
                });
            }
        }
        writer.add(group_region, &group);
        let Writer { filter, leaves, mut remaining } = writer;
        remaining.sort_unstable_by_key(|range| range.first);
        Some(Self { filter, leaves: leaves.blocks, remaining })
    }
}

/// A prefilter that is being written.
struct Writer<A: Family, T> {
    filter: Filter<A>,
    leaves: Leaves<A, T>,
    remaining: Vec<Range<T>>,
}

impl<A: Family, T: Annotation> Writer<A, T> {
    /// Adds the ranges of a region.
    fn add(&mut self, region: u64, ranges: &[Range<T>]) {
        let is_crowded = ranges.len() > T::ranges::<A>() / 2 && A::SITE_BITS > A::REGION_BITS;
        let storage = if is_crowded { Storage::Site } else { Storage::Region };
        let before = self.remaining.len();
        for range in ranges {
            let number = if is_crowded { common(range, A::SITE_BITS) } else { Some(region) };
            if !number.is_some_and(|number| self.leaves.add(number, *range)) {
                self.remaining.push(*range);
            }
        }
        let in_tables = self.remaining.len() - before;
        if in_tables < ranges.len() {
            self.filter.add(region, storage);
        }
        if in_tables > 0 {
            self.filter.add(region, Storage::Tables);
        }
    }

    /// Adds a range with addresses in many regions.
    fn add_long(&mut self, range: Range<T>) {
        self.remaining.push(range);
        for region in undecided_regions::<A, _>(&range).flatten() {
            self.filter.add(region, Storage::Tables);
        }
    }
}

/// The first and the last region with addresses of a range, if there are so few that each gets a part of the range.
fn few_regions<A: Family, T>(range: &Range<T>) -> Option<(u64, u64)> {
    let [first, last] = [range.first, range.last].map(|address| number(address, A::REGION_BITS));
    (last - first < MOST_PARTS).then_some((first, last))
}

/// The first bits of the addresses of a range, if all of them have the same.
fn common<T>(range: &Range<T>, bits: u32) -> Option<u64> {
    let [first, last] = [range.first, range.last].map(|address| number(address, bits));
    (first == last).then_some(first)
}

/// The first bits of an address.
fn number(address: u128, bits: u32) -> u64 {
    (address >> (128 - bits)) as u64
}

/// The regions with addresses of a range, without those that a hint of the direct table decides.
fn undecided_regions<A: Family, T: Annotation>(
    range: &Range<T>,
) -> impl Iterator<Item = RangeInclusive<u64>> {
    let (first, last) = (range.first, range.last);
    let region = |address| number(address, A::REGION_BITS);
    if !range.annotation.is_unconditional() {
        // Hints decide for no such range.
        return [Some(region(first)..=region(last)), None].into_iter().flatten();
    }
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
pub(super) struct Filter<A: Family> {
    /// The binary logarithm of the number of bits.
    pub(super) bits: u32,
    pub(super) blocks: Vec<A::Block>,
}

impl<A: Family> Filter<A> {
    fn new(bits: u32) -> Self {
        // A word has 64 bits, and a block as many words as nodes.
        Self { bits, blocks: vec![A::EMPTY; 1 << (bits - 6 - A::BLOCK_BITS)] }
    }

    /// Lets the filter tell that ranges of a region have this storage.
    fn add(&mut self, region: u64, storage: Storage) {
        let position = Position::of::<A>(region, self.bits);
        self.blocks[position.block as usize].as_mut()[position.word] |= position.bits(storage);
    }
}

/// Hashed leaves that are being written.
struct Leaves<A: Family, T> {
    blocks: Vec<A::Block>,
    /// The number of ranges in each.
    lengths: Vec<u8>,
    annotation: PhantomData<T>,
}

impl<A: Family, T: Annotation> Leaves<A, T> {
    /// As many that they are about half full with so many parts of ranges. If these are spread at random, one leaf in twenty or fewer has no
    /// room for all of its own.
    fn count(parts: usize) -> usize {
        parts.div_ceil(T::ranges::<A>() / 2).max(1)
    }

    fn new(count: usize) -> Self {
        let mut empty = A::EMPTY;
        // It contains no address, and no range of a leaf comes after it.
        let nothing = Range { first: LAST_ADDRESS, last: 0, annotation: T::NOTHING };
        for at in 0..T::ranges::<A>() {
            T::write::<A>(&mut empty, at, nothing);
        }
        Self { blocks: vec![empty; count], lengths: vec![0; count], annotation: PhantomData }
    }

    /// Adds a range to the leaf of a region or a site. Ranges are added in their order. Returns false if it has no room there.
    fn add(&mut self, number: u64, range: Range<T>) -> bool {
        let leaf = prefilter::leaf_of(number, self.blocks.len() as u32) as usize;
        let length = usize::from(self.lengths[leaf]);
        if length == T::ranges::<A>() || range.last == LAST_ADDRESS {
            return false;
        }
        T::write::<A>(&mut self.blocks[leaf], length, range);
        self.lengths[leaf] += 1;
        true
    }
}
