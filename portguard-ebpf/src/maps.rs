//! The maps, and the constants that the loader writes into the program.
//!
//! Sizes given here as 1 are set by the loader.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LpmTrie, RingBuf};
use aya_ebpf::macros::btf_map;
use portguard_common::address::{V4, V6};
use portguard_common::drop_log::{Event, Rate, TokenBucket};
use portguard_common::frame::LinkType;
use portguard_common::index::{Front, Indexed};
use portguard_common::policy::{Policy, SLOTS};
use portguard_common::sources::{BucketV4, BucketV6, Record};
use portguard_common::totals::Totals;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// A map of one kind of element that the loader reads through memory.
pub(crate) type Cells<T> = Array<T, 1, MMAPABLE>;

/// The tries of a list by slot: prefix -> number of the entry in the file.
pub(crate) type Lists<A> = ArrayOfMaps<LpmTrie<A, u32, 1>, SLOTS>;

/// The lines of an index. As many as the index of a list takes, which the kernel allows by the flag for inner maps.
pub(crate) type IndexLines<A> = Array<<A as Indexed>::Line, 1, { MMAPABLE | BPF_F_INNER_MAP as usize }>;

/// The indexes of a list by slot.
pub(crate) type Indexes<A> = ArrayOfMaps<IndexLines<A>, SLOTS>;

/// What is enforced.
#[btf_map]
pub(crate) static POLICY: Cells<Policy> = Array::new();

#[btf_map]
pub(crate) static LISTS_V4: Lists<V4> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static LISTS_V6: Lists<V6> = ArrayOfMaps::new();

/// By slot.
#[btf_map]
pub(crate) static FRONTS_V4: Cells<Front<V4>> = Array::new();
/// By slot.
#[btf_map]
pub(crate) static FRONTS_V6: Cells<Front<V6>> = Array::new();
#[btf_map]
pub(crate) static INDEXES_V4: Indexes<V4> = ArrayOfMaps::new();
#[btf_map]
pub(crate) static INDEXES_V6: Indexes<V6> = ArrayOfMaps::new();

/// By CPU.
#[btf_map]
pub(crate) static TOTALS: Cells<Totals> = Array::new();

/// By CPU, and in a CPU's slice by hash.
#[btf_map]
pub(crate) static BUCKETS_V4: Cells<BucketV4> = Array::new();
/// By bucket, and in a bucket by way.
#[btf_map]
pub(crate) static RECORDS_V4: Cells<Record> = Array::new();
/// By CPU, and in a CPU's slice by hash.
#[btf_map]
pub(crate) static BUCKETS_V6: Cells<BucketV6> = Array::new();
/// By bucket, and in a bucket by way.
#[btf_map]
pub(crate) static RECORDS_V6: Cells<Record> = Array::new();

/// By CPU.
#[btf_map]
pub(crate) static LOG_BUCKETS: Cells<TokenBucket> = Array::new();
/// Sampled drops, for the service to read: some 1,300.
#[btf_map]
pub(crate) static LOG: RingBuf<Event, 65_536> = RingBuf::new();

/// What the frames of the interface begin with: a [`LinkType`] as integer.
#[unsafe(no_mangle)]
static LINK_TYPE: Global<u32> = Global::new(0);

/// The slice of a CPU in the bucket maps has 2^this buckets.
#[unsafe(no_mangle)]
static BUCKET_BITS: Global<u32> = Global::new(0);

/// Of the hash that picks the bucket: a [`portguard_common::sources::Seed`]. Numbers that can be loaded one by one.
#[unsafe(no_mangle)]
static SEED: [Global<u64>; 5] = [const { Global::new(0) }; 5];

/// 0: denied packets are dropped. 1: everything passes, and is counted as if it were not to. A constant, so that the
/// verifier leaves out of the program what does not apply.
#[unsafe(no_mangle)]
static AUDIT: Global<u32> = Global::new(0);

/// How much each CPU may log.
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
