//! The maps of each address family.

use portguard_common::address::{V4, V6, mapped};
use portguard_common::cells::{Counted, Parts};
use portguard_common::conditions::Covered;
use portguard_common::entry::{self, Entry};
use portguard_common::lookup::{DirectTable, Indexed, Lookup};
use portguard_common::policy::SLOTS;
use portguard_common::rpc::Requests;

use crate::denied::Packet;
use crate::hook::Hook;
use crate::list;
use crate::maps::{
    self, BLOCKS_V4, BLOCKS_V6, Cells, ENTRIES_V4, ENTRIES_V6, LIST_V4, LIST_V6, List, REQUESTS_V4,
    REQUESTS_V6,
};

/// An address family of IP.
pub(crate) trait Family: Counted + Indexed + entry::Family + 'static {
    /// The length of an address in bits.
    const BITS: u32;
    /// The version of IP, 4 or 6.
    const VERSION: u8;
    /// The address in the form of [`portguard_common::drop_log::Event::source`].
    fn words(self) -> [u64; 2];
    /// The address as one of IPv6.
    fn mapped(self) -> V6;
    /// Looks up the address in the list in force, by a call of a BPF global function.
    fn look_up(self) -> Option<Covered>;
    /// Counts and logs a denied packet from this source, by a call of a BPF global function. Returns the action.
    fn denied(self, hook: impl Hook, packet: Packet) -> u32;
    /// The trie.
    fn list() -> &'static List<Self>;
    /// The entries of the trie.
    fn entries() -> &'static Cells<Entry<Self>>;
    /// The direct table of the list in a slot.
    fn direct_table(lookup: &Lookup, slot: usize) -> &DirectTable<Self>;
    /// The blocks of the indexes that do not fit into their direct tables.
    fn blocks() -> &'static Cells<Self::Block>;
    /// Where its parts of the cells begin.
    fn parts_offset() -> Parts;
    /// The requests of the established sources.
    fn requests() -> &'static Cells<Requests>;
}

impl Family for V4 {
    const BITS: u32 = 32;
    const VERSION: u8 = 4;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [u64::from(self), 0]
    }

    #[inline(always)]
    fn mapped(self) -> V6 {
        mapped(self)
    }

    #[inline(always)]
    fn look_up(self) -> Option<Covered> {
        Covered::from_word(list::portguard_look_up_v4(self))
    }

    #[inline(always)]
    fn denied(self, hook: impl Hook, packet: Packet) -> u32 {
        hook.denied_v4(self, packet)
    }

    #[inline(always)]
    fn list() -> &'static List<Self> {
        &LIST_V4
    }

    #[inline(always)]
    fn entries() -> &'static Cells<Entry<Self>> {
        &ENTRIES_V4
    }

    #[inline(always)]
    fn direct_table(lookup: &Lookup, slot: usize) -> &DirectTable<Self> {
        &lookup.v4[slot % SLOTS]
    }

    #[inline(always)]
    fn blocks() -> &'static Cells<Self::Block> {
        &BLOCKS_V4
    }

    #[inline(always)]
    fn parts_offset() -> Parts {
        maps::parts_v4()
    }

    #[inline(always)]
    fn requests() -> &'static Cells<Requests> {
        &REQUESTS_V4
    }
}

impl Family for V6 {
    const BITS: u32 = 128;
    const VERSION: u8 = 6;

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        self
    }

    #[inline(always)]
    fn mapped(self) -> V6 {
        self
    }

    #[inline(always)]
    fn look_up(self) -> Option<Covered> {
        let [first, second] = self;
        Covered::from_word(list::portguard_look_up_v6(first, second))
    }

    #[inline(always)]
    fn denied(self, hook: impl Hook, packet: Packet) -> u32 {
        hook.denied_v6(self, packet)
    }

    #[inline(always)]
    fn list() -> &'static List<Self> {
        &LIST_V6
    }

    #[inline(always)]
    fn entries() -> &'static Cells<Entry<Self>> {
        &ENTRIES_V6
    }

    #[inline(always)]
    fn direct_table(lookup: &Lookup, slot: usize) -> &DirectTable<Self> {
        &lookup.v6[slot % SLOTS]
    }

    #[inline(always)]
    fn blocks() -> &'static Cells<Self::Block> {
        &BLOCKS_V6
    }

    #[inline(always)]
    fn parts_offset() -> Parts {
        maps::parts_v6()
    }

    #[inline(always)]
    fn requests() -> &'static Cells<Requests> {
        &REQUESTS_V6
    }
}
