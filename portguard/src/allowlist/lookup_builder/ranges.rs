//! Prefixes as ranges of addresses.

use std::fmt;

use super::Family;

/// The addresses from `first` to `last`, and what a leaf has beside them. The bits of an IPv4 address are the upper 32 of the 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range<T> {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) annotation: T,
}

/// What a leaf has beside a range.
pub(super) trait Annotation: Copy + PartialEq + fmt::Debug {
    /// Whether that is the place of the entry. If not, a range stands for all entries that cover it.
    const IS_PLACE: bool;

    /// The number of ranges in a leaf.
    fn ranges<A: Family>() -> usize;

    /// Writes a range into a leaf, as the range of this number.
    fn write<A: Family>(leaf: &mut A::Block, at: usize, range: Range<Self>);

    /// What a range has that contains no address.
    const NOTHING: Self;
}

impl Annotation for () {
    const IS_PLACE: bool = false;
    const NOTHING: Self = ();

    fn ranges<A: Family>() -> usize {
        A::RANGES
    }

    fn write<A: Family>(leaf: &mut A::Block, at: usize, Range { first, last, .. }: Range<Self>) {
        A::write_range(leaf, at, first, last);
    }
}

/// The place of an entry in the table of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Annotation for Place {
    const IS_PLACE: bool = true;
    const NOTHING: Self = Self(0);

    fn ranges<A: Family>() -> usize {
        A::RANGES_WITH_PLACES
    }

    fn write<A: Family>(leaf: &mut A::Block, at: usize, Range { first, last, annotation }: Range<Self>) {
        A::write_range_with_place(leaf, at, first, last, annotation.0);
    }
}

/// The addresses of prefixes as ranges in ascending order, which neither overlap nor touch.
pub(super) fn joined<A: Family>(prefixes: impl IntoIterator<Item = (A, u8)>) -> Vec<Range<()>> {
    let mut ranges: Vec<Range<()>> = Vec::new();
    for (address, length) in prefixes {
        let Region { first, last } = Region::of(address.upper_bits(), length.into());
        match ranges.last_mut() {
            Some(before) if first <= before.last.saturating_add(1) => before.last = before.last.max(last),
            _ => ranges.push(Range { first, last, annotation: () }),
        }
    }
    ranges
}

/// The addresses whose longest entry is the same, as ranges in ascending order, which do not overlap.
pub(super) fn by_entry<A: Family>(entries: impl IntoIterator<Item = (A, u8, u32)>) -> Vec<Range<Place>> {
    let mut split = Split { ranges: Vec::new(), around: Vec::new(), from: Some(0) };
    for (address, length, place) in entries {
        let Region { first, last } = Region::of(address.upper_bits(), length.into());
        split.end_before(Some(first));
        split.from = Some(first);
        split.around.push((last, Place(place)));
    }
    split.end_before(None);
    split.ranges
}

/// Ranges that are being made of entries.
struct Split {
    ranges: Vec<Range<Place>>,
    /// The entries around the next address, the longest last: their last addresses and their places.
    around: Vec<(u128, Place)>,
    /// The next address that no range has; `None` behind the last one.
    from: Option<u128>,
}

impl Split {
    /// Makes ranges of all addresses before `next`, or of all that are left.
    fn end_before(&mut self, next: Option<u128>) {
        while let Some(&(end, place)) = self.around.last() {
            let ends = next.is_none_or(|next| end < next);
            let last = if ends { Some(end) } else { next.and_then(|next| next.checked_sub(1)) };
            if let (Some(first), Some(last)) = (self.from, last)
                && first <= last
            {
                self.ranges.push(Range { first, last, annotation: place });
                self.from = last.checked_add(1);
            }
            if !ends {
                break;
            }
            self.around.pop();
        }
    }
}

/// The addresses with the same first bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Region {
    pub(super) const ALL: Self = Self { first: 0, last: u128::MAX };

    pub(super) fn of(first: u128, length: u32) -> Self {
        Self { first, last: first | u128::MAX.checked_shr(length).unwrap_or(0) }
    }

    pub(super) fn is_within<T>(self, range: &Range<T>) -> bool {
        range.first <= self.first && self.last <= range.last
    }
}

/// Distributes ranges in ascending order to regions in ascending order. The regions leave out no address from the first
/// range on, so that no range is checked more than twice.
pub(super) struct Deal<'a, T>(pub(super) &'a [Range<T>]);

impl<'a, T> Deal<'a, T> {
    /// The ranges with addresses in `region`, the next region.
    pub(super) fn next(&mut self, region: Region) -> &'a [Range<T>] {
        let length = self.0.iter().take_while(|range| range.first <= region.last).count();
        let within = &self.0[..length];
        // The last range may also have addresses in the region after this one.
        let goes_on = within.last().is_some_and(|range| range.last > region.last);
        self.0 = &self.0[length - usize::from(goes_on)..];
        within
    }
}
