//! The sizes of the counters.

use std::fs;

use portguard_common::cells::{CellsLayout, MOST_BUCKET_BITS};
use portguard_common::rpc::Requests;
use portguard_common::source_table::WAYS;

use crate::error::{Error, Result};

/// `0-127`, or `0-3,8-11` if some numbers are missing: the number of a CPU can be higher than the number of CPUs.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The number of CPUs, and the number of buckets that each CPU has in the table of each address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    cpus: u32,
    bucket_bits: u32,
}

impl Sizes {
    /// 2^12 buckets, or 16,384 sources, for each CPU and address family: as many as remain in a second-level cache.
    const DEFAULT_BITS: u32 = 12;
    /// 2^6 buckets, or 256 sources: fewer are of no use, even on a host with many CPUs.
    const FEWEST_BITS: u32 = 6;
    /// The most memory of the tables of one guard by default, in bytes.
    const BUDGET: usize = 64 << 20;
    /// By default, they take at most one part in `SHARE` of the host's memory.
    const SHARE: usize = 64;

    /// The fewest sources of a table, for each CPU.
    pub const FEWEST_SOURCES: u32 = (WAYS as u32) << Self::FEWEST_BITS;
    /// The most sources of a table, for each CPU.
    pub const MOST_SOURCES: u32 = (WAYS as u32) << MOST_BUCKET_BITS;

    /// The default for a host with this many CPUs and this much memory, in bytes.
    pub fn for_host(cpus: u32, memory: usize) -> Self {
        let budget = Self::BUDGET.min(memory / Self::SHARE);
        let bytes = |bits: u32| {
            let requests = (2 * WAYS * size_of::<Requests>()) << bits;
            cpus as usize * (CellsLayout::new(bits).bytes() + requests)
        };
        let bucket_bits = (Self::FEWEST_BITS..=Self::DEFAULT_BITS)
            .rev()
            .find(|&bits| bytes(bits) <= budget)
            .unwrap_or(Self::FEWEST_BITS);
        Self { cpus, bucket_bits }
    }

    /// The smallest sizes for the same CPUs: one bucket each.
    pub(super) fn smallest(self) -> Self {
        Self { bucket_bits: 0, ..self }
    }

    /// The sizes for this number of sources on each CPU, rounded up; the default for this host if it is `None`.
    pub fn of_this_host(sources: Option<u32>) -> Result<Self> {
        let text = fs::read_to_string(POSSIBLE_CPUS)
            .map_err(|error| Error::failed(format!("cannot read {POSSIBLE_CPUS}")).caused_by(error))?;
        let cpus = cpu_numbers(&text).ok_or_else(|| {
            Error::failed(format!("cannot make sense of {POSSIBLE_CPUS}")).because(text.trim())
        })?;
        Ok(match sources {
            Some(sources) => Self { cpus, bucket_bits: Self::bits_for(sources) },
            None => Self::for_host(cpus, memory()),
        })
    }

    /// Whether these are the sizes for this number of sources.
    pub fn are_for(self, sources: u32) -> bool {
        self.bucket_bits == Self::bits_for(sources)
    }

    /// The number of sources that each CPU remembers of each address family, if `sources` are ordered: a power of two
    /// within the limits.
    pub fn sources_for(sources: u32) -> u32 {
        (WAYS as u32) << Self::bits_for(sources)
    }

    fn bits_for(sources: u32) -> u32 {
        let sources = sources.clamp(Self::FEWEST_SOURCES, Self::MOST_SOURCES).next_power_of_two();
        sources.ilog2() - WAYS.ilog2()
    }

    /// The number of sources that each CPU can remember of each address family.
    pub fn sources(self) -> u32 {
        (WAYS as u32) << self.bucket_bits
    }

    /// The sizes of counters that exist: for these CPUs, with 2^`bucket_bits` buckets each.
    pub(super) fn of_cells(cpus: u32, bucket_bits: u32) -> Self {
        Self { cpus, bucket_bits }
    }

    /// One more than the highest possible number of a CPU.
    pub fn cpus(self) -> u32 {
        self.cpus
    }

    /// The binary logarithm of the number of buckets of a CPU.
    pub fn bucket_bits(self) -> u32 {
        self.bucket_bits
    }

    /// The number of buckets of a CPU, for one address family.
    pub fn buckets(self) -> u32 {
        1 << self.bucket_bits
    }

    /// The number of sources that all CPUs can remember of each address family.
    pub fn places(self) -> u32 {
        self.cpus * self.sources()
    }
}

/// The memory of this host, in bytes; `usize::MAX` if the host does not report it.
fn memory() -> usize {
    let unit = |name| {
        // SAFETY: no preconditions.
        usize::try_from(unsafe { libc::sysconf(name) }).ok()
    };
    unit(libc::_SC_PHYS_PAGES).zip(unit(libc::_SC_PAGESIZE)).map_or(usize::MAX, |(pages, size)| pages * size)
}

/// One more than the last number in a list of ranges.
fn cpu_numbers(ranges: &str) -> Option<u32> {
    let last = ranges.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_has_its_cell_whatever_its_number() {
        assert_eq!(cpu_numbers("0\n"), Some(1));
        assert_eq!(cpu_numbers("0-127\n"), Some(128));
        assert_eq!(cpu_numbers("0-3,8-11\n"), Some(12));
        assert_eq!(cpu_numbers("0,5\n"), Some(6));
        assert_eq!(cpu_numbers("\n"), None);
    }

    #[test]
    fn more_cpus_share_a_bounded_amount_of_memory() {
        const MUCH: usize = 64 << 30;
        assert_eq!(Sizes::for_host(2, MUCH).sources(), 16_384);
        assert_eq!(Sizes::for_host(6, MUCH).sources(), 16_384);
        assert_eq!(Sizes::for_host(7, MUCH).sources(), 8192);
        assert_eq!(Sizes::for_host(64, MUCH).bucket_bits(), 8);
        assert_eq!(Sizes::for_host(8192, MUCH).bucket_bits(), Sizes::FEWEST_BITS);
        assert_eq!(Sizes::for_host(2, 512 << 20).sources(), 4096);
        assert_eq!(Sizes::for_host(2, 128 << 20).sources(), 1024, "a small host");
    }

    #[test]
    fn whoever_asks_for_sources_gets_as_many() {
        for (asked, given) in [(1, 256), (256, 256), (257, 512), (16_384, 16_384), (u32::MAX, 1 << 20)] {
            let sizes = Sizes { cpus: 2, bucket_bits: Sizes::bits_for(asked) };
            assert_eq!(sizes.sources(), given);
            assert!(sizes.are_for(asked));
        }
    }
}
