//! Reads the counters.

use std::sync::atomic::{Ordering, fence};

use aya::maps::MapData;
use portguard_common::address::{V4, V6};
use portguard_common::source_table::{Bucket, Key, Sighting, WAYS};
use portguard_common::totals::{Count, Totals};

use super::records::{OldBucket, OldRecord, OldTotals};
use crate::error::Result;
use crate::guard::counters::mapped;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The names of the maps.
pub(in crate::guard) const COUNTER_MAPS: [&str; 5] =
    ["TOTALS", "BUCKETS_V4", "RECORDS_V4", "BUCKETS_V6", "RECORDS_V6"];

/// The counters of all CPUs.
#[derive(Debug)]
pub(in crate::guard) struct Cells {
    totals: Mapped<OldTotals>,
    v4: Table<V4>,
    v6: Table<V6>,
}

/// The buckets and records of an address family: a slice for each CPU.
#[derive(Debug)]
pub(in crate::guard) struct Table<K: Key> {
    buckets: Mapped<OldBucket<K>>,
    records: Mapped<OldRecord>,
}

/// An address family whose sources are counted.
pub(in crate::guard) trait Counted: Key {
    /// Its table.
    fn table(cells: &Cells) -> &Table<Self>;
}

impl Counted for V4 {
    fn table(cells: &Cells) -> &Table<Self> {
        &cells.v4
    }
}

impl Counted for V6 {
    fn table(cells: &Cells) -> &Table<Self> {
        &cells.v6
    }
}

impl Cells {
    /// Opens the counters; `map` opens one of their maps by name.
    pub(in crate::guard) fn open(map: impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        let [totals, buckets_v4, records_v4, buckets_v6, records_v6] = COUNTER_MAPS;
        Ok(Self {
            totals: mapped(&map(totals)?, totals)?,
            v4: Table {
                buckets: mapped(&map(buckets_v4)?, buckets_v4)?,
                records: mapped(&map(records_v4)?, records_v4)?,
            },
            v6: Table {
                buckets: mapped(&map(buckets_v6)?, buckets_v6)?,
                records: mapped(&map(records_v6)?, records_v6)?,
            },
        })
    }

    /// Their sizes; `None` if the maps do not fit together.
    pub(in crate::guard) fn sizes(&self) -> Option<Sizes> {
        let (cpus, buckets) = (self.totals.len(), self.v4.buckets.len());
        let bits = buckets.checked_div(cpus)?.checked_ilog2()?;
        (cpus << bits == buckets).then(|| Sizes::of_cells(cpus, bits))
    }

    /// What a CPU has counted, without the packets that were denied for their source.
    pub(in crate::guard) fn totals(&self, cpu: u32) -> Totals {
        self.totals.read(cpu).current()
    }

    /// Puts the sources of a bucket into `seen`, and returns the bucket's remainder.
    pub(in crate::guard) fn bucket<K: Counted>(
        &self,
        cpu: u32,
        bucket: u32,
        seen: &mut Vec<(K, Sighting)>,
    ) -> Count {
        let Table { buckets, records } = K::table(self);
        let index = cpu * (buckets.len() / self.totals.len()) + bucket;
        let sequence = || buckets.read_u32(index, OldBucket::<K>::SEQUENCE_OFFSET);
        loop {
            seen.clear();
            let before = sequence();
            let bucket = buckets.read(index);
            // A record is read after the state that points to it.
            fence(Ordering::Acquire);
            let record = |way| records.read(index * WAYS as u32 + way as u32);
            seen.extend((0..WAYS).filter_map(|way| bucket.sighting(way, || record(way))));
            fence(Ordering::Acquire);
            if Bucket::<K>::is_whole(before, sequence()) {
                return bucket.remainder;
            }
            std::hint::spin_loop();
        }
    }
}
