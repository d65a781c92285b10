//! The maps, and the constants that the loader writes into the program.
//!
//! The loader sets each size that is 1 here.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, LpmTrie, LruHashMap, RingBuf};
use aya_ebpf::macros::btf_map;
use portguard_common::address::{V4, V6};
use portguard_common::calls::UdpCalls;
use portguard_common::cells::{CellsLayout, Parts, SmallestCells};
use portguard_common::conditions::Conditions;
use portguard_common::drop_log::{Event, LogBudget};
use portguard_common::entry::Entry;
use portguard_common::frame::LinkType;
use portguard_common::lookup::{Indexed, Lookup};
use portguard_common::rpc::Requests;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// An array map that the loader reads through a memory mapping.
pub(crate) type Cells<T> = Array<T, 1, MMAPABLE>;

/// A trie: from a prefix to its place in the table of entries.
pub(crate) type List<A> = LpmTrie<A, u32, 1>;

/// All that the look-up of a source begins with. It is a section of data, which the kernel makes a map of, so that its address is
/// a constant of the program. The loader writes to it.
#[unsafe(link_section = ".bss.lookup")]
#[unsafe(no_mangle)]
static LOOKUP: Written<Lookup> = Written(UnsafeCell::new(Lookup::EMPTY));

/// Data that the loader writes while the program runs.
struct Written<T>(UnsafeCell<T>);

// SAFETY: the program only reads it.
unsafe impl<T> Sync for Written<T> {}

#[inline(always)]
pub(crate) fn lookup() -> &'static Lookup {
    // SAFETY: any bytes are a `Lookup`. The loader writes to a slot that is not in force; `Lookup::active` is read by a volatile
    // access.
    unsafe { &*LOOKUP.0.get() }
}

#[btf_map]
pub(crate) static LIST_V4: List<V4> = LpmTrie::new();
#[btf_map]
pub(crate) static LIST_V6: List<V6> = LpmTrie::new();
#[btf_map]
pub(crate) static ENTRIES_V4: Cells<Entry<V4>> = Array::new();
#[btf_map]
pub(crate) static ENTRIES_V6: Cells<Entry<V6>> = Array::new();

/// The blocks of the indexes that do not fit into their direct tables.
#[btf_map]
pub(crate) static BLOCKS_V4: Cells<<V4 as Indexed>::Block> = Array::new();
#[btf_map]
pub(crate) static BLOCKS_V6: Cells<<V6 as Indexed>::Block> = Array::new();

/// The conditions of entries, one half for each slot, if the list has any.
#[btf_map]
pub(crate) static CONDITIONS: Cells<Conditions> = Array::new();

/// The cells of each CPU, indexed by CPU. With more buckets than the least number, the loader makes the map with larger
/// elements.
#[btf_map]
pub(crate) static CELLS: Cells<SmallestCells> = Array::new();

/// Indexed by CPU, bucket and way.
#[btf_map]
pub(crate) static REQUESTS_V4: Cells<Requests> = Array::new();
/// Indexed by CPU, bucket and way.
#[btf_map]
pub(crate) static REQUESTS_V6: Cells<Requests> = Array::new();

/// Of all CPUs.
#[btf_map]
pub(crate) static LOG_BUDGET: Cells<LogBudget> = Array::new();
/// The drop log, which the service reads. It has room for some 1,300 entries.
#[btf_map]
pub(crate) static LOG: RingBuf<Event, 65_536> = RingBuf::new();

/// See `connected.rs`.
#[btf_map]
pub(crate) static CONNECTED: LruHashMap<V6, u64, 1> = LruHashMap::new();

/// The cells of the map in the object file.
const SMALLEST: CellsLayout = CellsLayout::new(0);

/// The first header of the frames of the interface: a [`LinkType`] as integer.
#[unsafe(no_mangle)]
static LINK_TYPE: Global<u32> = Global::new(0);

/// The binary logarithm of the number of buckets of a CPU, for each address family.
#[unsafe(no_mangle)]
static BUCKET_BITS: Global<u32> = Global::new(0);

/// How far half of the hash of a source is shifted to the right to give the number of its bucket.
#[unsafe(no_mangle)]
static BUCKET_SHIFT: Global<u32> = Global::new(SMALLEST.bucket_shift());

/// Where the parts of the cells begin: the buckets of IPv6, the records of IPv4, and those of IPv6. The buckets of IPv4 are
/// always at the same place.
#[unsafe(no_mangle)]
static PARTS: [Global<u32>; 3] =
    [Global::new(SMALLEST.v6.buckets), Global::new(SMALLEST.v4.records), Global::new(SMALLEST.v6.records)];

/// The seed of the hash that selects the bucket: a [`portguard_common::source_table::Seed`], as numbers that can be loaded one
/// by one.
#[unsafe(no_mangle)]
static SEED: [Global<u64>; 5] = [const { Global::new(0) }; 5];

/// 0: denied and faulty packets are dropped. 1: all packets pass, and are counted as in enforcing mode. It is a constant,
/// so that the verifier removes the code that does not apply.
#[unsafe(no_mangle)]
static AUDIT: Global<u32> = Global::new(0);

/// The most entries of the log in a second, over all CPUs. If it is 0, the verifier removes the code of the log.
#[unsafe(no_mangle)]
static LOG_RATE: Global<u32> = Global::new(0);

/// What listed sources may ask over UDP: a [`UdpCalls`] as integer. It is a constant, so that a list without such a condition runs a
/// program without the code for it.
#[unsafe(no_mangle)]
static UDP_CALLS: Global<u32> = Global::new(UdpCalls::All as u32);

/// 1 if entries of the list have conditions, else 0. It is a constant for the same reason.
#[unsafe(no_mangle)]
static HAS_CONDITIONS: Global<u32> = Global::new(0);

#[inline(always)]
pub(crate) fn has_conditions() -> bool {
    HAS_CONDITIONS.load() != 0
}

#[inline(always)]
pub(crate) fn link_type() -> LinkType {
    if LINK_TYPE.load() == LinkType::Ethernet as u32 { LinkType::Ethernet } else { LinkType::RawIp }
}

#[inline(always)]
pub(crate) fn udp_calls() -> UdpCalls {
    UdpCalls::in_program(UDP_CALLS.load())
}

#[inline(always)]
pub(crate) fn bucket_bits() -> u32 {
    BUCKET_BITS.load()
}

#[inline(always)]
pub(crate) fn bucket_shift() -> u32 {
    BUCKET_SHIFT.load()
}

#[inline(always)]
pub(crate) fn parts_v4() -> Parts {
    Parts { buckets: SMALLEST.v4.buckets, records: PARTS[1].load() }
}

#[inline(always)]
pub(crate) fn parts_v6() -> Parts {
    Parts { buckets: PARTS[0].load(), records: PARTS[2].load() }
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
pub(crate) fn log_rate() -> u32 {
    LOG_RATE.load()
}
