//! The maps. Sizes given here as 1 are set by the loader.

use aya_ebpf::btf_maps::{Array, LpmTrie, LruPerCpuHashMap, ProgramArray};
use aya_ebpf::macros::btf_map;

use crate::baseline::Tally;
use crate::shared::{Block, Course, Forgery};

/// The program that a forger hands its packets to.
#[btf_map]
pub(crate) static NEXT: ProgramArray<1> = ProgramArray::new();
/// The same for programs that take packets in several buffers: an array takes programs of one kind only.
#[btf_map]
pub(crate) static NEXT_FRAGS: ProgramArray<1> = ProgramArray::new();

#[btf_map]
pub(crate) static FORGERY: Array<Forgery, 1> = Array::new();
/// The sources, in random order.
#[btf_map]
pub(crate) static SOURCES: Array<Block, 1> = Array::new();
/// By CPU.
#[btf_map]
pub(crate) static COURSES: Array<Course, 1> = Array::new();

#[btf_map]
pub(crate) static BASELINE_LIST_V4: LpmTrie<[u8; 4], u32, 1> = LpmTrie::new();
#[btf_map]
pub(crate) static BASELINE_LIST_V6: LpmTrie<[u8; 16], u32, 1> = LpmTrie::new();
#[btf_map]
pub(crate) static BASELINE_SOURCES_V4: LruPerCpuHashMap<[u8; 4], Tally, 65_536> = LruPerCpuHashMap::new();
#[btf_map]
pub(crate) static BASELINE_SOURCES_V6: LruPerCpuHashMap<[u8; 16], Tally, 65_536> = LruPerCpuHashMap::new();
