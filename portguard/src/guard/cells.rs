//! Reads the cells of the CPUs: [`portguard_common::cells`].

use std::sync::atomic::{Ordering, fence};

use aya::maps::MapData;
use aya_obj::generated::{BPF_F_MMAPABLE, bpf_map_type::BPF_MAP_TYPE_ARRAY};
use portguard_common::address::{V4, V6};
use portguard_common::cells::{self, CellsLayout, TOTALS};
use portguard_common::names;
use portguard_common::rpc::{REQUESTS, Requests};
use portguard_common::source_table::{Bucket, Record, Sighting, WAYS};
use portguard_common::totals::{Count, Totals};

use crate::error::{Error, Result};
use crate::guard::abi8::{self, OldRequests, OldTotals};
use crate::guard::counters::mapped;
use crate::guard::mapped::{Mapped, Memory};
use crate::guard::sizes::Sizes;

/// The cells of all CPUs.
#[derive(Debug)]
pub(super) struct Cells {
    memory: Memory,
    layout: CellsLayout,
    abi: u32,
    requests_v4: MapData,
    requests_v6: MapData,
}

/// The requests of the established sources, for as long as sources are read: the kernel maps all pages of the maps at once.
#[derive(Debug)]
pub(super) struct AllRequests {
    v4: RequestsMap,
    v6: RequestsMap,
}

/// The requests of the established sources of a family, in the layout of an ABI.
#[derive(Debug)]
pub(super) enum RequestsMap {
    Current(Mapped<Requests>),
    Abi8(Mapped<OldRequests>),
}

impl RequestsMap {
    fn new(abi: u32, map: &MapData, name: &str) -> Result<Self> {
        if abi <= abi8::LAST {
            mapped(map, name).map(Self::Abi8)
        } else {
            mapped(map, name).map(Self::Current)
        }
    }

    fn read(&self, index: u32) -> Requests {
        match self {
            Self::Current(requests) => requests.read(index),
            Self::Abi8(requests) => abi8::current(requests.read(index)),
        }
    }
}

/// An address family whose sources are counted.
pub(super) trait Counted: cells::Counted {
    /// The requests of its established sources.
    fn requests(all: &AllRequests) -> &RequestsMap;
}

impl Counted for V4 {
    fn requests(all: &AllRequests) -> &RequestsMap {
        &all.v4
    }
}

impl Counted for V6 {
    fn requests(all: &AllRequests) -> &RequestsMap {
        &all.v6
    }
}

/// Makes the map of the cells. Its elements are larger than those of the map in the object file.
pub(super) fn new_map(sizes: Sizes) -> std::io::Result<MapData> {
    let len = CellsLayout::new(sizes.bucket_bits()).bytes();
    let map = aya_obj::Map::new_from_params(
        BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        u32::try_from(len).map_err(std::io::Error::other)?,
        sizes.cpus(),
        BPF_F_MMAPABLE,
    );
    MapData::create(map, names::CELLS, None).map_err(std::io::Error::other)
}

impl Cells {
    /// Opens the cells of ABI 6 or later; `map` opens one of their maps by name.
    pub(super) fn open(abi: u32, map: impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        let broken = || Error::failed(format!("cannot read the map {} of the guard", names::CELLS));
        let memory = Memory::new(&map(names::CELLS)?).map_err(|error| broken().caused_by(error))?;
        let layout = CellsLayout::of_bytes(memory.stride())
            .ok_or_else(|| broken().because(format!("its values have {} bytes", memory.stride())))?;
        Ok(Self {
            memory,
            layout,
            abi,
            requests_v4: map(names::REQUESTS_V4)?,
            requests_v6: map(names::REQUESTS_V6)?,
        })
    }

    /// What [`Cells::bucket`] takes to tell what sources have asked for.
    pub(super) fn requests(&self) -> Result<AllRequests> {
        Ok(AllRequests {
            v4: RequestsMap::new(self.abi, &self.requests_v4, names::REQUESTS_V4)?,
            v6: RequestsMap::new(self.abi, &self.requests_v6, names::REQUESTS_V6)?,
        })
    }

    /// Their sizes.
    pub(super) fn sizes(&self) -> Option<Sizes> {
        Some(Sizes::of_cells(self.memory.len(), self.layout.bucket_bits))
    }

    /// What a CPU has counted, beside the sources.
    pub(super) fn totals(&self, cpu: u32) -> Totals {
        let mut sum = Totals::default();
        for totals in 0..TOTALS {
            let at = totals * size_of::<Totals>();
            if self.abi <= abi8::LAST {
                sum.add(&self.memory.read::<OldTotals>(cpu, at).current());
            } else {
                sum.add(&self.memory.read(cpu, at));
            }
        }
        sum
    }

    /// Puts the sources of a bucket into `seen`, and returns the bucket's remainder. If the CPU of the bucket changes it
    /// in the meantime, the bucket is copied again. Even a flood makes only a few thousand changes a second in one
    /// bucket, so a copy between two changes soon succeeds. Without `requests`, it does not tell what they asked for.
    pub(super) fn bucket<K: Counted>(
        &self,
        cpu: u32,
        bucket: u32,
        requests: Option<&AllRequests>,
        seen: &mut Vec<(K, Sighting)>,
    ) -> Count {
        let index = bucket as usize;
        let parts = K::parts(&self.layout);
        let (at, records) = (parts.bucket::<K>(index), parts.records(index));
        let first_way = ((cpu << self.layout.bucket_bits) + bucket) * WAYS as u32;
        let sequence = || self.memory.read_acquire(cpu, at + Bucket::<K>::SEQUENCE_OFFSET);
        loop {
            seen.clear();
            let before = sequence();
            let bucket: Bucket<K> = self.memory.read(cpu, at);
            // A record is read after the state that points to it.
            fence(Ordering::Acquire);
            seen.extend((0..WAYS).filter_map(|way| {
                let record = || self.memory.read(cpu, records + way * size_of::<Record>());
                bucket.sighting(way, record, || {
                    requests.map_or([0; REQUESTS], |all| K::requests(all).read(first_way + way as u32))
                })
            }));
            fence(Ordering::Acquire);
            if Bucket::<K>::is_whole(before, sequence()) {
                return bucket.remainder();
            }
            std::hint::spin_loop();
        }
    }
}
