//! The source table against an exact account: whatever comes in, nothing is lost, and what stays is right.

use std::collections::{BTreeMap, HashMap};

use portguard_common::cells::CellsLayout;
use portguard_common::rpc::{REQUESTS, Request, Requests};
use portguard_common::source_table::{
    Bucket, BucketV4, BucketV6, Event, Key, Record, Seed, Stamp, WAYS, Ways,
};
use portguard_common::totals::Count;
use proptest::prelude::*;

/// A table of one CPU.
struct Table<K: Key> {
    buckets: Vec<Bucket<K>>,
    records: Vec<[Record; WAYS]>,
    requests: Vec<[Requests; WAYS]>,
    seed: Seed,
    bits: u32,
}

struct WaysOf<'t> {
    records: &'t mut [Record; WAYS],
    requests: &'t mut [Requests; WAYS],
}

impl Ways for WaysOf<'_> {
    fn record(&mut self, way: usize) -> &mut Record {
        &mut self.records[way]
    }

    fn requests(&mut self, way: usize) -> Option<&mut Requests> {
        self.requests.get_mut(way)
    }
}

fn bucket(hash: u64, bits: u32) -> usize {
    CellsLayout::bucket_of(hash, CellsLayout::new(bits).bucket_shift())
}

/// A packet, and what is to be known about it afterwards.
#[derive(Debug, Clone, Copy)]
struct Packet<K> {
    source: K,
    bytes: u64,
    request: Request,
    now: Stamp,
}

impl<K: Key + Eq + Ord + std::hash::Hash> Table<K> {
    fn new(bits: u32, empty: Bucket<K>) -> Self {
        let seed =
            [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93, 77];
        let buckets = vec![empty; 1 << bits];
        Self {
            records: vec![[Record::default(); WAYS]; buckets.len()],
            // What is there before a source's first entry is that of another source.
            requests: vec![[[4711; REQUESTS]; WAYS]; buckets.len()],
            buckets,
            seed,
            bits,
        }
    }

    fn count(&mut self, packet: &Packet<K>) {
        let Packet { source, bytes, request, now } = *packet;
        let hash = source.hash(|index| self.seed[index]);
        let bucket = bucket(hash, self.bits);
        let event = Event { source, hash, count: Count::packet(bytes), request, now };
        let (records, requests) = (&mut self.records[bucket], &mut self.requests[bucket]);
        self.buckets[bucket].count(&event, &mut WaysOf { records, requests });
    }

    /// The sources that are remembered, and the sum of all that are not.
    fn read(&self) -> (BTreeMap<K, portguard_common::source_table::Sighting>, Count) {
        let mut sources = BTreeMap::new();
        let mut remainder = Count::default();
        for (index, bucket) in self.buckets.iter().enumerate() {
            for way in 0..WAYS {
                let record = || self.records[index][way];
                if let Some((source, sighting)) = bucket.sighting(way, record, || self.requests[index][way]) {
                    assert!(sources.insert(source, sighting).is_none(), "{source:?} is in two ways");
                }
            }
            remainder.add(bucket.remainder());
        }
        (sources, remainder)
    }
}

/// What must hold after any stream.
fn check<K: Key + Eq + Ord + std::hash::Hash>(mut table: Table<K>, stream: &[Packet<K>]) {
    let mut exact: HashMap<K, Vec<Packet<K>>> = HashMap::new();
    let mut total = Count::default();
    for packet in stream {
        table.count(packet);
        exact.entry(packet.source).or_default().push(*packet);
        total.add(Count::packet(packet.bytes));
    }
    let (sources, remainder) = table.read();
    let mut sum = remainder;
    for (source, sighting) in &sources {
        sum.add(sighting.count);
        // What is remembered of a source are its last packets: those since it was let in.
        let packets = &exact[source];
        let kept = sighting.count.packets as usize;
        assert!((1..=packets.len()).contains(&kept));
        let kept = &packets[packets.len() - kept..];
        assert_eq!(sighting.count.bytes, kept.iter().map(|packet| packet.bytes).sum::<u64>());
        let mut requests = [0; REQUESTS];
        for packet in kept {
            requests[packet.request.index()] += 1;
        }
        assert_eq!(sighting.requests, requests);
        assert_eq!(sighting.first_seen, kept[0].now);
        assert_eq!(sighting.last_seen, kept[kept.len() - 1].now);
    }
    assert_eq!(sum, total, "every packet is in one source or in the remainder");
    if exact.len() <= WAYS && table.bits == 0 {
        assert_eq!(sources.len(), exact.len(), "nobody had to make way");
        assert_eq!(remainder, Count::default());
    }
}

fn empty<B: portguard_common::layout::Shared>() -> B {
    // SAFETY: zeroes are the empty value of every `Shared` type.
    unsafe { std::mem::zeroed() }
}

fn packets<K: std::fmt::Debug>(source: impl Strategy<Value = K>) -> impl Strategy<Value = Vec<Packet<K>>> {
    let length = prop_oneof![20_u64..1500, Just(65_535), Just(65_536), Just(200_000)];
    let request = any::<u8>().prop_map(Request::from_index);
    let packet = (source, length, request, any::<u32>()).prop_map(|(source, bytes, request, now)| Packet {
        source,
        bytes,
        request,
        now,
    });
    proptest::collection::vec(packet, 0..400)
}

proptest! {
    #[test]
    fn ipv4_streams_are_accounted_for(stream in packets(0_u32..12), bits in 0_u32..3) {
        check(Table::new(bits, empty::<BucketV4>()), &stream);
    }

    #[test]
    fn ipv4_floods_are_accounted_for(stream in packets(any::<u32>()), bits in 0_u32..3) {
        check(Table::new(bits, empty::<BucketV4>()), &stream);
    }

    #[test]
    fn ipv6_streams_are_accounted_for(stream in packets([0_u64..3, 0_u64..4]), bits in 0_u32..3) {
        check(Table::new(bits, empty::<BucketV6>()), &stream);
    }
}

/// A pseudo random sequence (xorshift64*).
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// What a bucket holds: source -> packets, and which of them are more than a single packet.
fn ways(table: &Table<u32>, bucket: usize) -> Vec<(u32, u64)> {
    let sighting = |way: usize| {
        let (record, requests) = (|| table.records[bucket][way], || table.requests[bucket][way]);
        table.buckets[bucket].sighting(way, record, requests)
    };
    (0..WAYS).filter_map(sighting).map(|(source, sighting)| (source, sighting.count.packets)).collect()
}

/// Streams that are made to push sources out: (name, source of packet `number`).
type Stream = (&'static str, fn(u32, &mut u64) -> u32);
const ADVERSARIES: [Stream; 5] = [
    ("each packet from a new source", |_, state| random(state) as u32),
    ("each source twice in a row, to look established", |number, _| (number / 2).wrapping_mul(0x9e37_79b9)),
    ("each source ten times in a row", |number, _| (number / 10).wrapping_mul(0x9e37_79b9)),
    ("the same few more than fit, round and round", |number, _| (number % 40).wrapping_mul(0x9e37_79b9)),
    (
        "one source among many",
        |number, state| if number.is_multiple_of(3) { 7 } else { random(state) as u32 % 5000 },
    ),
];

/// The bound that docs/accounting.md states: whom a newcomer pushes out.
#[test]
fn only_those_make_way_who_have_sent_least() {
    for (name, source) in ADVERSARIES {
        let (mut table, mut state, mut evictions) = (Table::new(3, empty::<BucketV4>()), 1, 0);
        let bucket_of =
            |source: u32, table: &Table<u32>| bucket(source.hash(|index| table.seed[index]), table.bits);
        for number in 0..60_000 {
            let source = source(number, &mut state);
            let bucket = bucket_of(source, &table);
            let before = ways(&table, bucket);
            table.count(&Packet { source, bytes: 68, request: Request::from_index(0), now: number });
            let after = ways(&table, bucket);
            assert!(
                after.iter().any(|(there, _)| *there == source),
                "{name}: who has just sent is remembered"
            );
            let gone: Vec<_> =
                before.iter().filter(|(old, _)| !after.iter().any(|(there, _)| there == old)).collect();
            let Some((_, packets)) = gone.first() else { continue };
            evictions += 1;
            assert_eq!(
                (gone.len(), before.len()),
                (1, WAYS),
                "{name}: one makes way, and only if all ways are taken"
            );
            assert!(
                before.iter().all(|(_, others)| others >= packets),
                "{name}: of {before:?} one with {packets} packets made way"
            );
        }
        assert!(evictions > 1000, "{name}: only {evictions} evictions");
    }
}

/// 256 sources that send 1/128 of a flood in which every other packet has a source of its own: each of them has
/// 1/32,768 of the packets, in a table of 16,384 sources.
#[test]
fn heavy_sources_in_a_flood_keep_nearly_all_of_their_packets() {
    let mut table = Table::new(12, empty::<BucketV4>());
    let mut state = 1;
    let (mut sent, packets) = (BTreeMap::<u32, u64>::new(), 8 << 20);
    for number in 0..packets {
        let heavy = random(&mut state).is_multiple_of(128);
        let source =
            if heavy { (random(&mut state) % 256) as u32 } else { random(&mut state) as u32 | 1 << 31 };
        if heavy {
            *sent.entry(source).or_default() += 1;
        }
        table.count(&Packet { source, bytes: 68, request: Request::from_index(0), now: number });
    }
    let (sources, _) = table.read();
    let kept: u64 =
        sent.keys().filter_map(|source| sources.get(source)).map(|source| source.count.packets).sum();
    let all: u64 = sent.values().sum();
    let remembered = sent.keys().filter(|source| sources.contains_key(source)).count();
    assert_eq!(remembered, 256, "of 256 heavy sources, {remembered} are remembered");
    assert!(kept * 100 >= all * 97, "{kept} of {all} packets of the heavy sources are attributed to them");
}

/// The shares of empty, single and established ways after a flood from a pool of sources, in thousandths.
fn shares(pool: u64, packets: u32) -> [u64; 3] {
    let mut table = Table::new(12, empty::<BucketV4>());
    let mut state = 1;
    for number in 0..packets {
        let source = (random(&mut state) % pool) as u32;
        table.count(&Packet { source, bytes: 68, request: Request::from_index(0), now: number });
    }
    let (sources, _) = table.read();
    let all = (table.buckets.len() * WAYS) as u64;
    let established = sources.values().filter(|source| source.count.packets > 1).count() as u64;
    let taken = sources.len() as u64;
    [all - taken, taken - established, established].map(|ways| ways * 1000 / all)
}

/// What the head of `source_table.rs` and docs/accounting.md say of a lasting flood: whatever its pool, most buckets have three
/// established sources, and one single that each new source evicts.
#[test]
fn a_lasting_flood_finds_three_established_sources_in_a_bucket() {
    for (pool, packets) in [(1 << 16, 4 << 20), (1 << 18, 8 << 20), (1 << 20, 16 << 20), (1 << 22, 48 << 20)]
    {
        let [empty, singles, established] = shares(pool, packets);
        println!("{pool} sources, {packets} packets: {empty}, {singles}, {established} of 1000 ways");
        assert_eq!(empty, 0);
        assert!((740..=850).contains(&established), "{pool} sources: {established} of 1000 ways");
    }
    let [_, singles, established] = shares(u64::from(u32::MAX), 8 << 20);
    println!("sources that do not repeat: {singles} singles, {established} established of 1000 ways");
    assert!(established < 50, "{established} of 1000 ways");
}
