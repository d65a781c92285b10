//! The source table: it counts denied packets by source. Its size is fixed, and each denied packet costs the same,
//! whether its source is known or new.
//!
//! Each CPU has a slice of its own, and no other CPU writes to it: there are no atomics, no locks, and no allocation.
//! A slice is an array of buckets. A seeded hash ([`Seed`]) of the source address selects the bucket, and the source is
//! in one of its [`WAYS`] ways or nowhere. A way is
//!
//! - *empty*, or
//! - *single*: its source has sent one packet, which the bucket itself remembers, or
//! - *established*: its source has sent more packets, and the [`Record`] beside the bucket counts them.
//!
//! In a forged flood every source is new, so each packet accesses one bucket and no record. A new source takes an empty
//! way if there is one. Otherwise it replaces a single (the hash selects which one); if there is none, it replaces the
//! established source with the fewest packets. The counts of the evicted source go into the bucket's remainder: **every
//! packet is in exactly one way or in exactly one remainder**, so no packet is lost. A source that continues to send is
//! soon established, and remains while singles replace each other.
//!
//! Times are [`Stamp`]s.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::address::{Address, V4, V6};
use crate::layout::Shared;
use crate::rpc::{REQUESTS, Request, Requests};
use crate::totals::Count;

/// The number of sources that a bucket can hold.
pub const WAYS: usize = 4;

/// Time in units of 2^[`STAMP_SHIFT`] jiffies: 64 ms at `HZ=1000`, 640 ms at `HZ=100`; wraps after 8 years or more.
pub type Stamp = u32;

/// The binary logarithm of the jiffies in the unit of a [`Stamp`].
pub const STAMP_SHIFT: u32 = 6;

/// A source address as the key of a table.
pub trait Key: Address {
    /// Pads the bucket to a power of two.
    type Padding: Shared + core::fmt::Debug;

    /// A hash of 32 bits. A sender that does not know the seed cannot choose addresses for a bucket. `seed` returns the
    /// numbers of the seed one by one, because a short address does not need all of them.
    fn hash(self, seed: impl Fn(usize) -> u64) -> u32;
}

/// The random numbers of the hash: a factor for each 32 bits of the longest key, and a summand.
pub type Seed = [u64; 5];

/// Vector multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", section 3.5): for two keys and a
/// random seed, the upper 32 bits collide with probability 2^-32.
#[inline(always)]
fn multiply_shift<const N: usize>(words: [u32; N], seed: impl Fn(usize) -> u64) -> u32 {
    let mut sum = seed(4);
    for (index, word) in words.into_iter().enumerate() {
        sum = sum.wrapping_add(u64::from(word).wrapping_mul(seed(index)));
    }
    (sum >> 32) as u32
}

impl Key for V4 {
    type Padding = [u8; 0];

    #[inline(always)]
    fn hash(self, seed: impl Fn(usize) -> u64) -> u32 {
        multiply_shift([self], seed)
    }
}

impl Key for V6 {
    type Padding = [u8; 16];

    #[inline(always)]
    fn hash(self, seed: impl Fn(usize) -> u64) -> u32 {
        let [first, second] = self;
        multiply_shift([first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32], seed)
    }
}

/// The state of a way: one byte in [`Bucket::states`].
mod state {
    use crate::rpc::{REQUESTS, Request};

    pub(super) const EMPTY: u8 = 0;
    /// The first state of a single. There is one for each kind of request, in the order of their indexes.
    const SINGLE: u8 = 1;
    pub(super) const ESTABLISHED: u8 = SINGLE + REQUESTS as u8;

    /// The state of a single whose packet has this request.
    #[inline(always)]
    pub(super) fn single(request: Request) -> u8 {
        SINGLE + request.index() as u8
    }

    /// The request in the packet of a single.
    #[inline(always)]
    pub(super) fn request(single: u8) -> Request {
        Request::from_index(single.wrapping_sub(SINGLE))
    }

    /// Whether no way is empty, that is, whether no byte is zero.
    #[inline(always)]
    pub(super) fn are_taken(states: [u8; super::WAYS]) -> bool {
        let states = u32::from_ne_bytes(states);
        states.wrapping_sub(0x0101_0101) & !states & 0x8080_8080 == 0
    }

    #[inline(always)]
    pub(super) fn is_single(state: u8) -> bool {
        state.wrapping_sub(SINGLE) < REQUESTS as u8
    }
}

/// The ways that a source can be in, and the remainder. A bucket takes one cache line for IPv4, and two for IPv6.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Bucket<K: Key> {
    keys: [K; WAYS],
    first_seen: [Stamp; WAYS],
    /// The length of the packet of a single, in bytes.
    lengths: [u16; WAYS],
    states: [u8; WAYS],
    /// Odd while another source takes a way: a reader then tries again.
    sequence: u32,
    remainder: Count,
    padding: K::Padding,
}

/// A bucket of the IPv4 table.
pub type BucketV4 = Bucket<V4>;
/// A bucket of the IPv6 table.
pub type BucketV6 = Bucket<V6>;

// SAFETY: integers and arrays of them, without padding (asserted below); zeroes are an empty bucket.
unsafe impl Shared for BucketV4 {}
// SAFETY: as above.
unsafe impl Shared for BucketV6 {}

const _: () = assert!(size_of::<BucketV4>() == 64 && align_of::<BucketV4>() == 8);
const _: () = assert!(size_of::<BucketV6>() == 128 && align_of::<BucketV6>() == 8);

/// The packets of an established source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// All packets, and their bytes.
    pub count: Count,
    /// The time of the last packet.
    pub last_seen: Stamp,
    /// Zero.
    pub reserved: u32,
    /// The number of packets with each kind of request.
    pub requests: Requests,
}

// SAFETY: integers and an array of them, without padding (asserted below); zeroes are an empty record.
unsafe impl Shared for Record {}

const _: () = assert!(size_of::<Record>() == 152 && align_of::<Record>() == 8);

/// A denied packet.
#[derive(Clone, Copy, Debug)]
pub struct Event<K> {
    /// Its source.
    pub source: K,
    /// The hash of the source, which selects one of several singles.
    pub hash: u32,
    /// Its length in bytes, see [`Count::bytes`].
    pub bytes: u64,
    /// The call that it contains.
    pub request: Request,
    /// The time at which it is counted.
    pub now: Stamp,
}

/// The records that belong to a bucket.
pub trait Records {
    /// The record of a way. It is never `None` if the tables have the right sizes; if it is, the packet is counted in the
    /// remainder.
    fn record(&mut self, way: usize) -> Option<&mut Record>;
}

impl Record {
    #[inline(always)]
    fn add<K>(&mut self, event: &Event<K>) {
        self.count.add_packet(event.bytes);
        self.last_seen = event.now;
        let requests = &mut self.requests[event.request.index()];
        *requests = requests.wrapping_add(1);
    }
}

impl<K: Key> Bucket<K> {
    /// Counts a denied packet. The hash of its source must select this bucket.
    #[inline(always)]
    pub fn count(&mut self, event: &Event<K>, records: &mut impl Records) {
        match self.way_of(event.source) {
            Some(way) => self.count_again(way, event, records),
            None => self.count_first(event, records),
        }
    }

    #[inline(always)]
    fn way_of(&self, source: K) -> Option<usize> {
        (0..WAYS).find(|&way| self.keys[way] == source && self.states[way] != state::EMPTY)
    }

    #[inline(always)]
    fn count_again(&mut self, way: usize, event: &Event<K>, records: &mut impl Records) {
        let way = way % WAYS;
        let Some(record) = records.record(way) else {
            self.remainder.add_packet(event.bytes);
            return;
        };
        if self.states[way] == state::ESTABLISHED {
            record.add(event);
            return;
        }
        // In place: the stack of the kernel program is small.
        *record = Record::default();
        record.count = self.count_of_single(way);
        record.requests[state::request(self.states[way]).index()] = 1;
        record.add(event);
        // The record must be complete before the state makes readers use it.
        compiler_fence(Ordering::Release);
        self.states[way] = state::ESTABLISHED;
    }

    #[inline(always)]
    fn count_first(&mut self, event: &Event<K>, records: &mut impl Records) {
        // In a flood, all ways are taken, most of them by singles: the first way that is checked is then a single.
        let way = event.hash as usize % WAYS;
        let (way, gone) = if state::are_taken(self.states) && state::is_single(self.states[way]) {
            (way, self.count_of_single(way))
        } else {
            self.make_room(way, records)
        };
        self.sequence = self.sequence.wrapping_add(1);
        compiler_fence(Ordering::SeqCst);
        self.remainder.add(gone);
        self.settle(way, event, records);
        compiler_fence(Ordering::SeqCst);
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The way for a new source, and the packets of the source that was in that way.
    #[inline(always)]
    fn make_room(&self, start: usize, records: &mut impl Records) -> (usize, Count) {
        let empty = (0..WAYS).find(|&way| self.states[way] == state::EMPTY);
        let single =
            (0..WAYS).map(|way| (start + way) % WAYS).find(|&way| state::is_single(self.states[way]));
        match (empty, single) {
            (Some(way), _) => (way, Count::default()),
            (None, Some(way)) => (way, self.count_of_single(way)),
            (None, None) => self.least_established(records),
        }
    }

    /// Gives a way to a new source.
    #[inline(always)]
    fn settle(&mut self, way: usize, event: &Event<K>, records: &mut impl Records) {
        let way = way % WAYS;
        self.keys[way] = event.source;
        self.first_seen[way] = event.now;
        self.states[way] = match u16::try_from(event.bytes) {
            Ok(length) => {
                self.lengths[way] = length;
                state::single(event.request)
            }
            // The packet is too long for `lengths`, which is possible in a frame of several buffers only.
            Err(_) => match records.record(way) {
                Some(record) => {
                    *record = Record::default();
                    record.add(event);
                    state::ESTABLISHED
                }
                None => {
                    self.remainder.add_packet(event.bytes);
                    state::EMPTY
                }
            },
        };
    }

    /// The established source with the fewest packets: its way, and its packets. Calls are rare: if each way has an
    /// established source, the next new source becomes a single, and singles are replaced first.
    #[inline(always)]
    fn least_established(&self, records: &mut impl Records) -> (usize, Count) {
        // Not an `Option`: the compiler copies the payload of a `None`, which was never written, and Linux 5.10 refuses
        // that.
        let mut least = (0, records.record(0).map_or_else(Count::default, |record| record.count));
        for way in 1..WAYS {
            if let Some(record) = records.record(way)
                && record.count.packets < least.1.packets
            {
                least = (way, record.count);
            }
        }
        least
    }

    /// The one packet of the single in this way.
    #[inline(always)]
    fn count_of_single(&self, way: usize) -> Count {
        Count { packets: 1, bytes: u64::from(self.lengths[way % WAYS]) }
    }

    /// The source in this way, and its packets; `None` if the way is empty. `record` returns the record of the way. It is
    /// called for established sources only.
    pub fn sighting(&self, way: usize, record: impl FnOnce() -> Record) -> Option<(K, Sighting)> {
        let first_seen = self.first_seen[way];
        let sighting = match self.states[way] {
            state::EMPTY => return None,
            state::ESTABLISHED => {
                let Record { count, last_seen, reserved: _, requests } = record();
                Sighting { count, requests, first_seen, last_seen }
            }
            single => {
                let mut requests = [0; REQUESTS];
                requests[state::request(single).index()] = 1;
                Sighting { count: self.count_of_single(way), requests, first_seen, last_seen: first_seen }
            }
        };
        Some((self.keys[way], sighting))
    }

    /// The packets of sources that were evicted from this bucket.
    pub fn remainder(&self) -> Count {
        self.remainder
    }

    /// The offset of the sequence number, in bytes: see [`Bucket::is_whole`].
    pub const SEQUENCE_OFFSET: usize = core::mem::offset_of!(Self, sequence);

    /// Whether a copy of a bucket and its records is consistent. `before` and `after` are the sequence numbers that were
    /// read from the original before the first byte was copied, and after the last one.
    pub fn is_whole(before: u32, after: u32) -> bool {
        before == after && before.is_multiple_of(2)
    }
}

/// The packets of a source that the table remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// All packets, and their bytes.
    pub count: Count,
    /// The number of packets with each kind of request.
    pub requests: Requests,
    /// The time of the first packet.
    pub first_seen: Stamp,
    /// The time of the last packet.
    pub last_seen: Stamp,
}
