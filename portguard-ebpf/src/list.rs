//! Looks up sources in the list in force: in the index, and then in the trie.
//!
//! The functions with names that begin with `portguard` are BPF global functions: the verifier checks them once, and not
//! again on each path that calls them.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::address::V4;
use portguard_common::lookup::{self, Blocks, DirectTable, Lookup, form, hint};
use portguard_common::policy::SLOTS;

use crate::family::Family;
use crate::maps;

/// Whether the list in force covers an IPv4 source. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_covers_v4(source: V4) -> u32 {
    covers(source).into()
}

/// Whether the list in force covers an IPv6 source, of which `first` and `second` are the halves. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_covers_v6(first: u64, second: u64) -> u32 {
    covers([first, second]).into()
}

/// Whether the list in force covers a source. It makes a call only for what the direct table, and the prefilter of a long
/// list, leave undecided.
#[inline(always)]
pub(crate) fn covers_at_once<A: Family>(source: A) -> bool {
    let lookup = maps::lookup();
    let direct_table = A::direct_table(lookup, slot(lookup));
    match hint(direct_table, source) {
        hint::DENIED => false,
        hint::COVERED => true,
        // A short list: its blocks are in the direct table, so the look-up needs no call.
        _ if direct_table.form == form::DIRECT => {
            lookup::search_nearby(direct_table, source).unwrap_or_else(|| source.is_on_list())
        }
        _ => {
            !lookup::is_filtered_out(direct_table, &BlocksOf::of(direct_table), source) && source.is_on_list()
        }
    }
}

/// The slot of the list in force.
#[inline(always)]
fn slot(lookup: &Lookup) -> usize {
    // SAFETY: a valid reference; the loader stores the slot in one aligned write.
    unsafe { (&raw const lookup.active).read_volatile() as usize }
}

#[inline(always)]
fn covers<A: Family>(source: A) -> bool {
    let lookup = maps::lookup();
    let slot = slot(lookup);
    let direct_table = A::direct_table(lookup, slot);
    match hint(direct_table, source) {
        hint::DENIED => return false,
        hint::COVERED => return true,
        _ => {}
    }
    search(direct_table, source).unwrap_or_else(|| is_in_trie(slot, source))
}

#[inline(always)]
fn search<A: Family>(direct_table: &DirectTable<A>, source: A) -> Option<bool> {
    if direct_table.form & form::DIRECT != 0 {
        return lookup::search(direct_table, direct_table, source);
    }
    lookup::search(direct_table, &BlocksOf::of(direct_table), source)
}

/// Whether an entry of the list in a slot covers the longest prefix of the trie that contains the source.
#[inline(always)]
fn is_in_trie<A: Family>(slot: usize, source: A) -> bool {
    let on_stack = StackKey { _aligned: 0, key: Key::new(A::BITS, source) };
    let Some(place) = A::list().get(&on_stack.key) else { return false };
    A::entries().get(*place).is_some_and(|entry| entry.numbers[slot % SLOTS].covers())
}

/// The blocks of an index that are in the map.
struct BlocksOf<A> {
    first: u32,
    family: PhantomData<A>,
}

impl<A: Family> BlocksOf<A> {
    #[inline(always)]
    fn of(direct_table: &DirectTable<A>) -> Self {
        Self { first: direct_table.first_block, family: PhantomData }
    }
}

impl<A: Family> Blocks<A> for BlocksOf<A> {
    #[inline(always)]
    fn block(&self, number: u32) -> Option<&A::Block> {
        A::blocks().get(self.first.wrapping_add(number))
    }
}

/// A key of a trie on the stack, with its address at a multiple of eight bytes. The compiler may access memory at any
/// address (without this permission, it makes three times as many loads from packets), but the verifier requires aligned
/// accesses on the stack.
#[repr(C, align(8))]
struct StackKey<A> {
    _aligned: u32,
    key: Key<A>,
}
