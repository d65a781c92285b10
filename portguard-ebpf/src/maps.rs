//! The maps, and the constants that the loader writes into the program.
//!
//! Sizes given here as 1 are set by the loader.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LpmTrie};
use aya_ebpf::macros::btf_map;
use portguard_common::frame::LinkType;
use portguard_common::policy::{Policy, SLOTS};
use portguard_common::sources::{BucketV4, BucketV6, Record, Seed};
use portguard_common::totals::Totals;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// A trie of a list: prefix -> number of the entry in the file.
pub(crate) type TrieV4 = LpmTrie<[u8; 4], u32, 1>;
/// A trie of a list: prefix -> number of the entry in the file.
pub(crate) type TrieV6 = LpmTrie<[u8; 16], u32, 1>;

/// What is enforced.
#[btf_map]
pub(crate) static POLICY: Array<Policy, 1, MMAPABLE> = Array::new();

/// The lists, by slot.
#[btf_map]
pub(crate) static LISTS_V4: ArrayOfMaps<TrieV4, SLOTS> = ArrayOfMaps::new();
/// The lists, by slot.
#[btf_map]
pub(crate) static LISTS_V6: ArrayOfMaps<TrieV6, SLOTS> = ArrayOfMaps::new();

/// By CPU.
#[btf_map]
pub(crate) static TOTALS: Array<Totals, 1, MMAPABLE> = Array::new();

/// By CPU, and in a CPU's slice by hash.
#[btf_map]
pub(crate) static BUCKETS_V4: Array<BucketV4, 1, MMAPABLE> = Array::new();
/// By bucket, and in a bucket by way.
#[btf_map]
pub(crate) static RECORDS_V4: Array<Record, 1, MMAPABLE> = Array::new();
/// By CPU, and in a CPU's slice by hash.
#[btf_map]
pub(crate) static BUCKETS_V6: Array<BucketV6, 1, MMAPABLE> = Array::new();
/// By bucket, and in a bucket by way.
#[btf_map]
pub(crate) static RECORDS_V6: Array<Record, 1, MMAPABLE> = Array::new();

/// What the frames of the interface begin with: a [`LinkType`] as integer.
#[unsafe(no_mangle)]
static LINK_TYPE: Global<u32> = Global::new(0);

/// The slice of a CPU in the bucket maps has 2^this buckets.
#[unsafe(no_mangle)]
static BUCKET_BITS: Global<u32> = Global::new(0);

/// Of the hash that picks the bucket.
#[unsafe(no_mangle)]
static SEED: Global<Seed> = Global::new([0; 5]);

#[inline(always)]
pub(crate) fn link_type() -> LinkType {
    if LINK_TYPE.load() == LinkType::Ethernet as u32 { LinkType::Ethernet } else { LinkType::RawIp }
}

#[inline(always)]
pub(crate) fn bucket_bits() -> u32 {
    BUCKET_BITS.load()
}

#[inline(always)]
pub(crate) fn seed() -> Seed {
    SEED.load()
}
