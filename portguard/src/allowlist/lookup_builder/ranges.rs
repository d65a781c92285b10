//! Prefixes as ranges of addresses.

use std::fmt;

use portguard_common::lookup::form;

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
    /// What it adds to the form of an index: one of [`mod@form`], or nothing.
    const FORM: u32;

    /// What a range has that contains no address.
    const NOTHING: Self;

    /// Whether the entries of the range have no conditions. Hints and nodes can stand for such a range.
    fn is_unconditional(self) -> bool;

    /// The number of ranges in a leaf.
    fn ranges<A: Family>() -> usize;

    /// Writes a range into a leaf, as the range of this number.
    fn write<A: Family>(leaf: &mut A::Block, at: usize, range: Range<Self>);
}

impl Annotation for () {
    const FORM: u32 = 0;
    const NOTHING: Self = ();

    fn is_unconditional(self) -> bool {
        true
    }

    fn ranges<A: Family>() -> usize {
        A::RANGES
    }

    fn write<A: Family>(leaf: &mut A::Block, at: usize, Range { first, last, .. }: Range<Self>) {
        A::write_range(leaf, at, first, last);
    }
}

/// The number of the conditions of an entry; 0 if it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u32);

impl Annotation for Number {
    const FORM: u32 = form::CONDITIONS;
    const NOTHING: Self = Self(0);

    fn is_unconditional(self) -> bool {
        self.0 == 0
    }

    fn ranges<A: Family>() -> usize {
        A::RANGES_WITH_NUMBERS
    }

    fn write<A: Family>(leaf: &mut A::Block, at: usize, Range { first, last, annotation }: Range<Self>) {
        A::write_range_with_number(leaf, at, first, last, annotation.0);
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

/// The addresses whose longest entries have the same conditions, as ranges in ascending order, which do not overlap. Neighbours have
/// different conditions.
pub(super) fn by_conditions<A: Family>(
    entries: impl IntoIterator<Item = (A, u8, u32)>,
) -> Vec<Range<Number>> {
    let mut split = Split { ranges: Vec::new(), around: Vec::new(), from: Some(0) };
    for (address, length, number) in entries {
        let Region { first, last } = Region::of(address.upper_bits(), length.into());
        split.end_before(Some(first));
        split.from = Some(first);
        split.around.push((last, Number(number)));
    }
    split.end_before(None);
    split.ranges
}

/// Ranges that are being made of entries.
struct Split {
    ranges: Vec<Range<Number>>,
    /// The entries around the next address, the longest last: their last addresses and their numbers.
    around: Vec<(u128, Number)>,
    /// The next address that no range has; `None` behind the last one.
    from: Option<u128>,
}

impl Split {
    /// Makes ranges of all addresses before `next`, or of all that are left.
    fn end_before(&mut self, next: Option<u128>) {
        while let Some(&(end, number)) = self.around.last() {
            let ends = next.is_none_or(|next| end < next);
            let last = if ends { Some(end) } else { next.and_then(|next| next.checked_sub(1)) };
            if let (Some(first), Some(last)) = (self.from, last)
                && first <= last
            {
                self.add(Range { first, last, annotation: number });
                self.from = last.checked_add(1);
            }
            if !ends {
                break;
            }
            self.around.pop();
        }
    }

    fn add(&mut self, range: Range<Number>) {
        match self.ranges.last_mut() {
            Some(before)
                if before.annotation == range.annotation
                    && before.last.checked_add(1) == Some(range.first) =>
            {
                before.last = range.last;
            }
            _ => self.ranges.push(range),
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
