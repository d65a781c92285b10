//! The cells: all that one CPU writes for each denied packet, in one element of an array that is indexed by CPU. One look-up
//! finds them.
//!
//! The element has two [`Totals`], the buckets of IPv4, those of IPv6, and the hot records of both. How many buckets there are
//! is an order of the user; a constant of the program tells their number.

use crate::address::{V4, V6};
use crate::source_table::{Bucket, Key, Record, WAYS};
use crate::totals::Totals;

/// The [`Totals`] of a CPU. The second is for programs that run while another one runs on the same CPU, which no kernel
/// allows today: docs/internals/abi.md. Readers add both.
pub const TOTALS: usize = 2;

/// Where the buckets begin, in bytes.
const HEADER: usize = TOTALS * size_of::<Totals>();

/// The bytes of the hot records of a bucket.
const RECORDS: usize = WAYS * size_of::<Record>();

/// An address family whose sources are counted in cells.
pub trait Counted: Key {
    /// Where its parts begin.
    fn parts(layout: &CellsLayout) -> Parts;
}

/// Where the parts of an address family begin, in bytes after the start of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Parts {
    /// The buckets.
    pub buckets: u32,
    /// The records of the first bucket, those of all its ways; the records of the next bucket follow.
    pub records: u32,
}

impl Parts {
    /// A bucket.
    #[inline(always)]
    pub const fn bucket<A: Counted>(self, bucket: usize) -> usize {
        self.buckets as usize + bucket * size_of::<Bucket<A>>()
    }

    /// The first record of a bucket.
    #[inline(always)]
    pub const fn records(self, bucket: usize) -> usize {
        self.records as usize + bucket * RECORDS
    }
}

impl Counted for V4 {
    #[inline(always)]
    fn parts(layout: &CellsLayout) -> Parts {
        layout.v4
    }
}

impl Counted for V6 {
    #[inline(always)]
    fn parts(layout: &CellsLayout) -> Parts {
        layout.v6
    }
}

/// Where the parts of the cells of a CPU are. The loader writes it into the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CellsLayout {
    /// The parts of IPv4.
    pub v4: Parts,
    /// The parts of IPv6.
    pub v6: Parts,
    /// The binary logarithm of the number of buckets.
    pub bucket_bits: u32,
}

impl CellsLayout {
    /// The layout with 2^`bucket_bits` buckets of each family.
    pub const fn new(bucket_bits: u32) -> Self {
        let [v4, v6] = [size_of::<Bucket<V4>>(), size_of::<Bucket<V6>>()];
        let header = HEADER as u32;
        Self {
            v4: Parts { buckets: header, records: header + Self::part(v4 + v6, bucket_bits) },
            v6: Parts {
                buckets: header + Self::part(v4, bucket_bits),
                records: header + Self::part(v4 + v6 + RECORDS, bucket_bits),
            },
            bucket_bits,
        }
    }

    /// So many bytes for each bucket.
    const fn part(bytes: usize, bucket_bits: u32) -> u32 {
        (bytes as u32) << bucket_bits
    }

    /// How far half of the hash of a source is shifted to the right to give the number of its bucket. It is half of the hash,
    /// because with a single bucket the shift would be by all bits.
    pub const fn bucket_shift(self) -> u32 {
        u64::BITS - 1 - self.bucket_bits
    }

    /// The bucket of a source with this hash; `shift` is [`CellsLayout::bucket_shift`].
    #[inline(always)]
    pub const fn bucket_of(hash: u64, shift: u32) -> usize {
        ((hash >> 1) >> (shift & (u64::BITS - 1))) as usize
    }

    /// The bytes of all cells of a CPU.
    pub const fn bytes(self) -> usize {
        self.v6.records(1 << self.bucket_bits)
    }

    /// The layout of cells with so many bytes; `None` if there is none.
    pub fn of_bytes(bytes: usize) -> Option<Self> {
        (0..=MOST_BUCKET_BITS).map(Self::new).find(|layout| layout.bytes() == bytes)
    }
}

/// The greatest binary logarithm of the number of buckets.
pub const MOST_BUCKET_BITS: u32 = 18;

/// The cells of the smallest size, with one bucket for each family: the type of the map in the object file.
pub type SmallestCells = [u64; CellsLayout::new(0).bytes() / size_of::<u64>()];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_without_gaps_and_in_whole_cache_lines() {
        for bucket_bits in [0, 6, 12, MOST_BUCKET_BITS] {
            let layout = CellsLayout::new(bucket_bits);
            let CellsLayout { v4, v6, .. } = layout;
            let buckets = 1 << bucket_bits;
            let ends = [
                v4.bucket::<V4>(buckets),
                v6.bucket::<V6>(buckets),
                v4.records(buckets),
                v6.records(buckets),
            ];
            let starts = [v6.bucket::<V6>(0), v4.records(0), v6.records(0), layout.bytes()];
            assert_eq!(ends, starts);
            assert_eq!(v4.bucket::<V4>(0), HEADER);
            assert!(starts.iter().chain([&HEADER]).all(|start| start.is_multiple_of(64)));
            assert_eq!(CellsLayout::of_bytes(layout.bytes()), Some(layout));
        }
        assert_eq!(CellsLayout::of_bytes(4096), None);
        assert_eq!(size_of::<SmallestCells>(), CellsLayout::new(0).bytes());
    }
}
