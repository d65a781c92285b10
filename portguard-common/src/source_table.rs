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
//! A new source takes an empty way if there is one. Otherwise it takes the way of a single: the first one from the way that
//! the hash selects. If all ways are established, it takes the way of the source with the fewest packets. The counts of the
//! evicted source go into the bucket's remainder: **every packet is in exactly one way or in exactly one remainder**, so no
//! packet is lost.
//!
//! A single that sends again is established, and only established sources of its bucket can evict it then. A bucket with
//! four established sources makes room for the next new source, which is a single. So in a lasting flood most buckets have
//! three established sources and one single, which each new source replaces, whatever the flood consists of
//! (docs/accounting.md has the figures). New sources are the common case, so the way to evict is found without a branch.
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

    /// A hash, of which the upper 32 bits count. A sender that does not know the seed cannot choose addresses for a bucket.
    /// `seed` returns the numbers of the seed one by one, because a short address does not need all of them.
    fn hash(self, seed: impl Fn(usize) -> u64) -> u64;
}

/// The random numbers of the hash: a factor for each 32 bits of the longest key, and a summand.
pub type Seed = [u64; 5];

/// Vector multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", section 3.5): for two keys and a
/// random seed, the upper 32 bits collide with probability 2^-32.
#[inline(always)]
fn multiply_shift<const N: usize>(words: [u32; N], seed: impl Fn(usize) -> u64) -> u64 {
    let mut sum = seed(4);
    for (index, word) in words.into_iter().enumerate() {
        sum = sum.wrapping_add(u64::from(word).wrapping_mul(seed(index)));
    }
    sum
}

impl Key for V4 {
    type Padding = [u8; 0];

    #[inline(always)]
    fn hash(self, seed: impl Fn(usize) -> u64) -> u64 {
        multiply_shift([self], seed)
    }
}

impl Key for V6 {
    type Padding = [u8; 16];

    #[inline(always)]
    fn hash(self, seed: impl Fn(usize) -> u64) -> u64 {
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
    /// The highest bit, so that one operation finds the ways of all others.
    pub(super) const ESTABLISHED: u8 = 0x80;

    const _: () = assert!(SINGLE as usize + REQUESTS <= ESTABLISHED as usize);

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

    /// The highest bit of each byte of a bucket's states.
    const HIGHEST: u32 = 0x8080_8080;

    /// Some of the ways of a bucket: the highest bit of the state of each.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) struct Ways(u32);

    impl Ways {
        /// The ways that are empty: whose byte is zero (Warren, "Hacker's Delight", section 6-1).
        #[inline(always)]
        pub(super) fn empty(states: [u8; super::WAYS]) -> Self {
            let states = u32::from_ne_bytes(states);
            Self(!(((states & !HIGHEST) + !HIGHEST) | states) & HIGHEST)
        }

        /// The ways that are not established.
        #[inline(always)]
        pub(super) fn not_established(states: [u8; super::WAYS]) -> Self {
            Self(!u32::from_ne_bytes(states) & HIGHEST)
        }

        #[inline(always)]
        pub(super) fn is_none(self) -> bool {
            self.0 == 0
        }

        /// The first of the ways, of which there is one, from `start` on, and around to the ones before it. There is no
        /// branch: in a flood, none could be predicted.
        #[inline(always)]
        pub(super) fn first_from(self, start: usize) -> usize {
            // The multiplication moves the four bits side by side, in the order of the ways.
            let ways = self.0.to_le().wrapping_mul(0x0020_4081) >> 28;
            let from_start = ((ways | ways << super::WAYS) >> (start & 3)) & 15;
            let distance = LOWEST_BIT >> (2 * from_start) & 3;
            (start + distance as usize) & 3
        }
    }

    /// The number of the lowest bit that is set in each value of four bits: two bits for each value.
    const LOWEST_BIT: u32 = {
        let (mut table, mut value) = (0, 1_u32);
        while value < 16 {
            table |= value.trailing_zeros() << (2 * value);
            value += 1;
        }
        table
    };

    const _: () = assert!(super::WAYS == 4);

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_first_way_is_found_from_any_start() {
            for taken in 0..16_u32 {
                let states = [0, 1, 2, 3].map(|way| if taken >> way & 1 == 1 { ESTABLISHED } else { 7 });
                let ways = Ways::not_established(states);
                assert_eq!(ways.is_none(), taken == 15);
                let expected = |start| (0..4).map(|way| (start + way) % 4).find(|way| states[*way] == 7);
                for start in 0..4 {
                    if let Some(expected) = expected(start) {
                        assert_eq!(ways.first_from(start), expected, "{states:?} from {start}");
                    }
                }
            }
        }

        #[test]
        fn a_way_is_empty_only_if_its_state_is_zero() {
            for state in 0..=u8::MAX {
                for way in 0..4 {
                    let mut states = [1, ESTABLISHED, 16, 5];
                    states[way] = state;
                    assert_eq!(Ways::empty(states).is_none(), state != EMPTY, "{states:?}");
                    if state == EMPTY {
                        assert_eq!(Ways::empty(states).first_from(3), way);
                    }
                }
            }
        }
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
    /// Odd while a way changes its source or its state, or a source its request: a reader then tries again.
    sequence: u32,
    remainder: Count,
    padding: K::Padding,
}

/// A bucket of the IPv4 table.
pub type BucketV4 = Bucket<V4>;
/// A bucket of the IPv6 table.
pub type BucketV6 = Bucket<V6>;

// SAFETY: integers and arrays of them, without padding (asserted below); zeroes are an empty bucket.
unsafe impl<K: Key> Shared for Bucket<K> {}

const _: () = assert!(size_of::<BucketV4>() == 64 && align_of::<BucketV4>() == 8);
const _: () = assert!(size_of::<BucketV6>() == 128 && align_of::<BucketV6>() == 8);

/// The packets of an established source. A source asks for the same thing again and again, so the kind of the last packets
/// is stored once. [`Requests`] are in another place, and are accessed when the kind changes only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// All packets, and their bytes.
    pub count: Count,
    /// How many of the packets are counted in the source's [`Requests`]. Those of another source are there if it is zero.
    /// All packets after them had the request `request`.
    pub spread: u64,
    /// The time of the last packet.
    pub last_seen: Stamp,
    /// The index of a [`Request`].
    pub request: u32,
}

// SAFETY: integers, without padding (asserted below); zeroes are an empty record.
unsafe impl Shared for Record {}

const _: () = assert!(size_of::<Record>() == 32 && align_of::<Record>() == 8);

/// A denied packet, or several that the kernel has merged into one.
#[derive(Clone, Copy, Debug)]
pub struct Event<K> {
    /// Its source.
    pub source: K,
    /// The hash of the source, which selects one of several singles.
    pub hash: u64,
    /// How many packets, and their bytes.
    pub count: Count,
    /// The call that it contains.
    pub request: Request,
    /// The time at which it is counted.
    pub now: Stamp,
}

/// What belongs to the ways of a bucket, and how its changes are ordered.
pub trait Ways {
    /// The record of a way.
    fn record(&mut self, way: usize) -> &mut Record;

    /// The requests of a way. They are never `None` if the tables have the right sizes.
    fn requests(&mut self, way: usize) -> Option<&mut Requests>;

    /// Adds one to the sequence number of a bucket. No store moves over this one, in the order in which other CPUs see them. For
    /// CPUs whose stores keep their order, it is enough that the compiler keeps it, too.
    #[inline(always)]
    fn advance(sequence: &mut u32) {
        compiler_fence(Ordering::SeqCst);
        *sequence = sequence.wrapping_add(1);
        compiler_fence(Ordering::SeqCst);
    }
}

impl Record {
    /// Begins with what a single has sent.
    #[inline(always)]
    fn begin(&mut self, count: Count, request: Request) {
        self.count = count;
        self.spread = 0;
        self.request = request.index() as u32;
    }

    /// Counts a packet with the same request as the one before it.
    #[inline(always)]
    fn add<K>(&mut self, event: &Event<K>) {
        self.count.add(event.count);
        self.last_seen = event.now;
    }

    /// The number of packets with each kind of request. `requests` are those of the same way.
    pub fn requests(&self, requests: impl FnOnce() -> Requests) -> Requests {
        let mut requests = if self.spread == 0 { [0; REQUESTS] } else { requests() };
        let last = &mut requests[self.request as usize % REQUESTS];
        *last = last.wrapping_add(self.count.packets.wrapping_sub(self.spread));
        requests
    }
}

/// Counts the packets of a way so far among its requests, because a packet with another request comes.
#[inline(always)]
fn change_request(ways: &mut impl Ways, way: usize, request: u32) {
    let Record { count, spread, request: before, .. } = *ways.record(way);
    if let Some(requests) = ways.requests(way) {
        if spread == 0 {
            clear(requests);
        }
        let before = &mut requests[before as usize % REQUESTS];
        *before = before.wrapping_add(count.packets.wrapping_sub(spread));
    }
    let record = ways.record(way);
    record.spread = count.packets;
    record.request = request;
}

/// Sets all counters to zero, one by one: of a shorter form the compiler makes a call of a function, which clears them byte
/// by byte.
#[inline(always)]
fn clear(requests: &mut Requests) {
    for counter in requests {
        // SAFETY: a valid reference.
        unsafe { core::ptr::from_mut(counter).write_volatile(0) };
    }
}

/// The established source with the fewest packets of a bucket whose ways are all established: its way, and its packets.
/// Calls are rare: the next new source becomes a single, and singles are evicted first.
#[inline(always)]
fn least_established(ways: &mut impl Ways) -> (usize, Count) {
    // Not an `Option`: the compiler copies the payload of a `None`, which was never written, and Linux 5.10 refuses that.
    let mut least = (0, ways.record(0).count);
    for way in 1..WAYS {
        let count = ways.record(way).count;
        if count.packets < least.1.packets {
            least = (way, count);
        }
    }
    least
}

impl<K: Key> Bucket<K> {
    /// Counts a denied packet. The hash of its source must select this bucket.
    #[inline(always)]
    pub fn count<W: Ways>(&mut self, event: &Event<K>, ways: &mut W) {
        match self.way_of(event.source) {
            Some(way) => self.count_again(way, event, ways),
            None => self.count_first(event, ways),
        }
    }

    #[inline(always)]
    fn way_of(&self, source: K) -> Option<usize> {
        (0..WAYS).find(|&way| self.keys[way] == source && self.states[way] != state::EMPTY)
    }

    #[inline(always)]
    fn count_again<W: Ways>(&mut self, way: usize, event: &Event<K>, ways: &mut W) {
        let way = way % WAYS;
        let state = self.states[way];
        let request = event.request.index() as u32;
        if state == state::ESTABLISHED && ways.record(way).request == request {
            ways.record(way).add(event);
            return;
        }
        W::advance(&mut self.sequence);
        if state != state::ESTABLISHED {
            ways.record(way).begin(self.count_of_single(way), state::request(state));
            self.states[way] = state::ESTABLISHED;
        }
        if ways.record(way).request != request {
            change_request(ways, way, request);
        }
        ways.record(way).add(event);
        W::advance(&mut self.sequence);
    }

    #[inline(always)]
    fn count_first<W: Ways>(&mut self, event: &Event<K>, ways: &mut W) {
        // The highest bits have selected the bucket.
        let start = (event.hash >> 32) as usize % WAYS;
        let empty = state::Ways::empty(self.states);
        let free = if empty.is_none() { state::Ways::not_established(self.states) } else { empty };
        let (way, gone) = if free.is_none() {
            least_established(ways)
        } else {
            let way = free.first_from(start);
            // An empty way has no packet.
            let packets = u64::from(empty.is_none());
            (way, Count { packets, bytes: u64::from(self.lengths[way % WAYS]) * packets })
        };
        W::advance(&mut self.sequence);
        self.remainder.add(gone);
        self.settle(way, event, ways);
        W::advance(&mut self.sequence);
    }

    /// Gives a way to a new source.
    #[inline(always)]
    fn settle(&mut self, way: usize, event: &Event<K>, ways: &mut impl Ways) {
        let way = way % WAYS;
        self.keys[way] = event.source;
        self.first_seen[way] = event.now;
        self.states[way] = match u16::try_from(event.count.bytes) {
            Ok(length) if event.count.packets == 1 => {
                self.lengths[way] = length;
                state::single(event.request)
            }
            // A single has one packet, whose length `lengths` can hold. That of a frame of several buffers may be greater.
            _ => {
                let record = ways.record(way);
                record.begin(Count::default(), event.request);
                record.add(event);
                state::ESTABLISHED
            }
        };
    }

    /// The one packet of the single in this way.
    #[inline(always)]
    fn count_of_single(&self, way: usize) -> Count {
        Count { packets: 1, bytes: u64::from(self.lengths[way % WAYS]) }
    }

    /// The source in this way, and its packets; `None` if the way is empty. `record` returns the record of the way, and
    /// `requests` its requests. They are called for established sources only.
    pub fn sighting(
        &self,
        way: usize,
        record: impl FnOnce() -> Record,
        requests: impl FnOnce() -> Requests,
    ) -> Option<(K, Sighting)> {
        let first_seen = self.first_seen[way];
        let sighting = match self.states[way] {
            state::EMPTY => return None,
            state::ESTABLISHED => {
                let record = record();
                let Record { count, last_seen, .. } = record;
                Sighting { count, requests: record.requests(requests), first_seen, last_seen }
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
