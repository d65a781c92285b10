//! How large the counters are.

use std::fs;

use portguard_common::sources::{BucketV4, BucketV6, Record, WAYS};

use crate::error::{Error, Result};

/// `0-127`, or `0-3,8-11` where some are missing: the number of a CPU can be higher than there are CPUs.
const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The number of CPUs, and how many buckets each has in the table of each address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    cpus: u32,
    bucket_bits: u32,
}

impl Sizes {
    /// 2^12 buckets, or 16,384 sources, for each CPU and address family: as many as stay in a second-level cache.
    const MOST_BITS: u32 = 12;
    /// 2^6 buckets, or 256 sources: fewer are no help, however many CPUs there are.
    const FEWEST_BITS: u32 = 6;
    /// What the tables of one guard may take, in bytes.
    const BUDGET: usize = 64 << 20;

    /// The default for a host with this many CPUs.
    pub fn for_cpus(cpus: u32) -> Self {
        let bytes = |bits: u32| {
            let bucket = size_of::<BucketV4>() + size_of::<BucketV6>() + 2 * WAYS * size_of::<Record>();
            (cpus as usize * bucket) << bits
        };
        let bucket_bits = (Self::FEWEST_BITS..=Self::MOST_BITS)
            .rev()
            .find(|&bits| bytes(bits) <= Self::BUDGET)
            .unwrap_or(Self::FEWEST_BITS);
        Self { cpus, bucket_bits }
    }

    /// The default for this host.
    pub fn of_this_host() -> Result<Self> {
        let text = fs::read_to_string(POSSIBLE_CPUS)
            .map_err(|error| Error::failed(format!("cannot read {POSSIBLE_CPUS}")).because(error))?;
        cpu_numbers(&text).map(Self::for_cpus).ok_or_else(|| {
            Error::failed(format!("cannot make sense of {POSSIBLE_CPUS}")).because(text.trim())
        })
    }

    /// The sizes that maps of these lengths were made with; `None` if no sizes give them.
    pub(crate) fn of_maps(totals: u32, buckets: u32) -> Option<Self> {
        let bucket_bits = buckets.checked_div(totals)?.checked_ilog2()?;
        let sizes = Self { cpus: totals, bucket_bits };
        (sizes.buckets() == buckets).then_some(sizes)
    }

    /// One more than the highest number of a CPU that the kernel may ever bring up.
    pub fn cpus(self) -> u32 {
        self.cpus
    }

    /// Binary logarithm of the buckets of a CPU.
    pub fn bucket_bits(self) -> u32 {
        self.bucket_bits
    }

    /// Buckets of all CPUs, for one address family.
    pub fn buckets(self) -> u32 {
        self.cpus << self.bucket_bits
    }

    /// Records of all CPUs, for one address family.
    pub fn records(self) -> u32 {
        self.buckets() * WAYS as u32
    }
}

/// One more than the last number of a list of ranges.
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
        assert_eq!(Sizes::for_cpus(2).records(), 2 * 16_384);
        assert_eq!(Sizes::for_cpus(64).bucket_bits(), 10);
        assert_eq!(Sizes::for_cpus(8192).bucket_bits(), Sizes::FEWEST_BITS);
    }

    #[test]
    fn sizes_are_found_again_from_the_maps() {
        let sizes = Sizes::for_cpus(6);
        assert_eq!(Sizes::of_maps(sizes.cpus(), sizes.buckets()), Some(sizes));
        assert_eq!(Sizes::of_maps(0, 64), None);
        assert_eq!(Sizes::of_maps(6, 65), None);
    }
}
