//! The records of ABI 4 and 5.

use portguard_common::address::{V4, V6};
use portguard_common::layout::Shared;
use portguard_common::reason::{DropReason, Fault};
use portguard_common::rpc::{REQUESTS, Request};
use portguard_common::source_table::{Key, Sighting, Stamp, WAYS};
use portguard_common::totals::{Count, Totals};

use crate::guard::abi8::{OldRequests, current};

/// What one CPU has counted, without the packets that were denied for their source.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct OldTotals {
    allowed: Count,
    truncated: Count,
    malformed: Count,
    too_many_headers: Count,
    would_drop: Count,
    unattributed: Count,
    requests: OldRequests,
    not_logged: u64,
    reserved: [u64; 3],
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are the empty value.
unsafe impl Shared for OldTotals {}

const _: () = assert!(size_of::<OldTotals>() == 256);

impl OldTotals {
    /// The same in the current layout. It does not have the packets that were denied for their source.
    pub(super) fn current(&self) -> Totals {
        let mut totals = Totals {
            allowed: self.allowed,
            would_drop: self.would_drop,
            unattributed: self.unattributed,
            requests: current(self.requests),
            not_logged: self.not_logged,
            ..Totals::default()
        };
        // Later faults were not known.
        for (fault, count) in [
            (Fault::Truncated, self.truncated),
            (Fault::Malformed, self.malformed),
            (Fault::TooManyHeaders, self.too_many_headers),
        ] {
            *totals.drop_mut(DropReason::Fault(fault)) = count;
        }
        totals
    }
}

/// The ways that a source can be in, and the remainder.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct OldBucket<K: Key> {
    keys: [K; WAYS],
    first_seen: [Stamp; WAYS],
    lengths: [u16; WAYS],
    states: [u8; WAYS],
    sequence: u32,
    /// The packets of evicted sources.
    pub(super) remainder: Count,
    padding: K::Padding,
}

// SAFETY: integers and arrays of them, without padding (asserted below); zeroes are an empty bucket.
unsafe impl<K: Key> Shared for OldBucket<K> {}

const _: () = assert!(size_of::<OldBucket<V4>>() == 64 && size_of::<OldBucket<V6>>() == 128);

/// The packets of an established source.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct OldRecord {
    count: Count,
    last_seen: Stamp,
    reserved: u32,
    requests: OldRequests,
}

// SAFETY: integers and an array of them, without padding (asserted below); zeroes are an empty record.
unsafe impl Shared for OldRecord {}

const _: () = assert!(size_of::<OldRecord>() == 152);

/// The states of a way.
const EMPTY: u8 = 0;
const FIRST_SINGLE: u8 = 1;
const ESTABLISHED: u8 = FIRST_SINGLE + 16;

impl<K: Key> OldBucket<K> {
    /// The offset of the sequence number, in bytes.
    pub(super) const SEQUENCE_OFFSET: usize = std::mem::offset_of!(Self, sequence);

    /// The source in a way, and its packets; `None` if the way is empty.
    pub(super) fn sighting(&self, way: usize, record: impl FnOnce() -> OldRecord) -> Option<(K, Sighting)> {
        let first_seen = self.first_seen[way];
        let sighting = match self.states[way] {
            EMPTY => return None,
            ESTABLISHED => {
                let OldRecord { count, last_seen, requests, .. } = record();
                Sighting { count, requests: current(requests), first_seen, last_seen }
            }
            single => {
                let mut requests = [0; REQUESTS];
                requests[Request::from_index(single - FIRST_SINGLE).index()] = 1;
                let count = Count { packets: 1, bytes: u64::from(self.lengths[way]) };
                Sighting { count, requests, first_seen, last_seen: first_seen }
            }
        };
        Some((self.keys[way], sighting))
    }
}
