//! The maps, and the constants that the loader writes into the program.
//!
//! The loader sets each size that is 1 here.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LpmTrie, LruHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use portguard_common::address::{V4, V6};
use portguard_common::drop_log::{Event, Rate, TokenBucket};
use portguard_common::frame::LinkType;
use portguard_common::lookup::{DirectTable, Indexed};
use portguard_common::policy::{Policy, SLOTS};
use portguard_common::source_table::{BucketV4, BucketV6, Record};
use portguard_common::totals::Totals;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// An array map that the loader reads through a memory mapping.
pub(crate) type Cells<T> = Array<T, 1, MMAPABLE>;

/// The tries of the lists, indexed by slot. A trie maps a prefix to the number of its entry in the file.
pub(crate) type Lists<A> = ArrayOfMaps<LpmTrie<A, u32, 1>, SLOTS>;

/// The lines of an index. Their number depends on the list, which the kernel permits because of the flag for inner maps.
pub(crate) type IndexLines<A> = Array<<A as Indexed>::Block, 1, { MMAPABLE | BPF_F_INNER_MAP as usize }>;

/// The lines of the indexes, indexed by slot.
pub(crate) type Indexes<A> = ArrayOfMaps<IndexLines<A>, SLOTS>;

/// The policy, as the only element.
#[btf_map]
pub(crate) static POLICY: Cells<Policy> = Array::new();

#[btf_map]
pub(crate) static LISTS_V4: Lists<V4> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static LISTS_V6: Lists<V6> = ArrayOfMaps::new();

/// Indexed by slot.
#[btf_map]
pub(crate) static FRONTS_V4: Cells<DirectTable<V4>> = Array::new();
/// Indexed by slot.
#[btf_map]
pub(crate) static FRONTS_V6: Cells<DirectTable<V6>> = Array::new();
#[btf_map]
pub(crate) static INDEXES_V4: Indexes<V4> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static INDEXES_V6: Indexes<V6> = ArrayOfMaps::new();

/// Indexed by CPU.
#[btf_map]
pub(crate) static TOTALS: Cells<Totals> = Array::new();

/// Indexed by CPU, and by hash within the slice of a CPU.
#[btf_map]
pub(crate) static BUCKETS_V4: Cells<BucketV4> = Array::new();
/// Indexed by bucket, and by way within a bucket.
#[btf_map]
pub(crate) static RECORDS_V4: Cells<Record> = Array::new();
/// Indexed by CPU, and by hash within the slice of a CPU.
#[btf_map]
pub(crate) static BUCKETS_V6: Cells<BucketV6> = Array::new();
/// Indexed by bucket, and by way within a bucket.
#[btf_map]
pub(crate) static RECORDS_V6: Cells<Record> = Array::new();

/// Indexed by CPU.
#[btf_map]
pub(crate) static LOG_BUCKETS: Cells<TokenBucket> = Array::new();
/// The drop log, which the service reads. It has room for some 1,300 entries.
#[btf_map]
pub(crate) static LOG: RingBuf<Event, 65_536> = RingBuf::new();

/// See `connected.rs`.
#[btf_map]
pub(crate) static CONNECTED: LruHashMap<V6, u64, 1> = LruHashMap::new();

/// The first header of the frames of the interface: a [`LinkType`] as integer.
#[unsafe(no_mangle)]
static LINK_TYPE: Global<u32> = Global::new(0);

/// The binary logarithm of the number of buckets in the slice of a CPU.
#[unsafe(no_mangle)]
static BUCKET_BITS: Global<u32> = Global::new(0);

/// The seed of the hash that selects the bucket: a [`portguard_common::source_table::Seed`], as numbers that can be loaded one
/// by one.
#[unsafe(no_mangle)]
static SEED: [Global<u64>; 5] = [const { Global::new(0) }; 5];

/// 0: denied and faulty packets are dropped. 1: all packets pass, and are counted as in enforcing mode. It is a constant,
/// so that the verifier removes the code that does not apply.
#[unsafe(no_mangle)]
static AUDIT: Global<u32> = Global::new(0);

/// The log rate of each CPU: the fields of a [`Rate`] in their order.
#[unsafe(no_mangle)]
static LOG_RATE: Global<[u64; 2]> = Global::new([0; 2]);

#[inline(always)]
pub(crate) fn link_type() -> LinkType {
    if LINK_TYPE.load() == LinkType::Ethernet as u32 { LinkType::Ethernet } else { LinkType::RawIp }
}

#[inline(always)]
pub(crate) fn bucket_bits() -> u32 {
    BUCKET_BITS.load()
}

#[inline(always)]
pub(crate) fn seed(index: usize) -> u64 {
    SEED[index].load()
}

#[inline(always)]
pub(crate) fn is_audit() -> bool {
    AUDIT.load() != 0
}

#[inline(always)]
pub(crate) fn log_rate() -> Rate {
    let [interval, depth] = LOG_RATE.load();
    Rate { interval, depth }
}
