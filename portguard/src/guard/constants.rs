//! What a loader tells the program and its maps: constants, and sizes.

use aya::EbpfLoader;
use portguard_common::calls::UdpCalls;
use portguard_common::cells::CellsLayout;
use portguard_common::drop_log::Rate;
use portguard_common::frame::LinkType;
use portguard_common::lookup::Lookup;
use portguard_common::names;
use portguard_common::policy::SLOTS;
use portguard_common::source_table::Seed;

use crate::guard::hook::HookKind;
use crate::guard::lists::Capacities;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The constants that the loader writes into the program.
#[derive(Debug)]
pub(super) struct Constants {
    link_type: u32,
    audit: u32,
    log_rate: u32,
    udp_calls: u32,
    has_conditions: u32,
    bucket_bits: u32,
    bucket_shift: u32,
    /// In the order of `PARTS` in `portguard-ebpf/src/maps.rs`.
    parts: [u32; 3],
    seed: Seed,
}

/// The part of a program's order that is constant in the program, and not in its maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    /// The hook that it is for.
    pub hook: HookKind,
    /// The first header of the frames of its interface.
    pub link_type: LinkType,
    /// Whether it runs in audit mode.
    pub audit: bool,
    /// The log rate.
    pub log_rate: Rate,
    /// The calls that its list permits over UDP.
    pub udp_calls: UdpCalls,
    /// Whether entries of its list have conditions.
    pub has_conditions: bool,
}

impl Constants {
    /// The constants for a task, and for counters with these sizes and this seed.
    pub(super) fn new(task: Task, sizes: Sizes, seed: Seed) -> Self {
        let Task { hook: _, link_type, audit, log_rate, udp_calls, has_conditions } = task;
        let layout = CellsLayout::new(sizes.bucket_bits());
        let CellsLayout { v4, v6, bucket_bits } = layout;
        Self {
            link_type: link_type as u32,
            audit: audit.into(),
            log_rate: log_rate.in_program(),
            udp_calls: udp_calls as u32,
            has_conditions: has_conditions.into(),
            bucket_bits,
            bucket_shift: layout.bucket_shift(),
            parts: [v6.buckets, v4.records, v6.records],
            seed,
        }
    }

    /// Makes a loader write the constants into the program, and make the maps with these sizes.
    pub(super) fn give<'a>(&'a self, loader: &mut EbpfLoader<'a>, sizes: Sizes) {
        loader
            .override_global("LINK_TYPE", &self.link_type, true)
            .override_global("AUDIT", &self.audit, true)
            .override_global("LOG_RATE", &self.log_rate, true)
            .override_global("UDP_CALLS", &self.udp_calls, true)
            .override_global("HAS_CONDITIONS", &self.has_conditions, true)
            .override_global("BUCKET_BITS", &self.bucket_bits, true)
            .override_global("BUCKET_SHIFT", &self.bucket_shift, true)
            .override_global("PARTS", &self.parts, true)
            .override_global("SEED", &self.seed, true)
            .map_max_entries(names::CELLS, sizes.cpus())
            .map_max_entries(names::REQUESTS_V4, sizes.places())
            .map_max_entries(names::REQUESTS_V6, sizes.places());
    }
}

/// The name that a map has in the object file.
pub(super) fn in_object(name: &'static str) -> &'static str {
    if name == names::LOOKUP { names::LOOKUP_SECTION } else { name }
}

/// The words of what the look-ups of a program begin with.
pub(super) fn in_words(lookup: &Mapped<Lookup>) -> Vec<u64> {
    let words = size_of::<Lookup>() / size_of::<u64>();
    (0..words).map(|word| lookup.word(0, word * size_of::<u64>())).collect()
}

/// Tells a loader what a pinned map of look-ups holds. The loader writes the initial value of a section of data also into a map
/// that is there already: it then writes the same words.
pub(super) fn give_lookup<'a>(loader: &mut EbpfLoader<'a>, in_force: &'a [u64]) {
    loader.override_global(names::LOOKUP, in_force, true);
}

/// Makes a loader make the maps of the lists with this room.
pub(super) fn give_room(loader: &mut EbpfLoader<'_>, Capacities { v4, v6, conditions }: Capacities) {
    loader
        // One more than needed: kernels before 5.11 refuse even a replacement in a full trie.
        .map_max_entries(names::LIST_V4, v4.entries + 1)
        .map_max_entries(names::LIST_V6, v6.entries + 1)
        .map_max_entries(names::ENTRIES_V4, v4.entries)
        .map_max_entries(names::ENTRIES_V6, v6.entries)
        .map_max_entries(names::BLOCKS_V4, v4.blocks * SLOTS as u32)
        .map_max_entries(names::BLOCKS_V6, v6.blocks * SLOTS as u32)
        // A map has one element at least.
        .map_max_entries(names::CONDITIONS, (conditions * SLOTS as u32).max(1));
}
