//! Looks up sources in the list in force: in the index, and then in the trie.
//!
//! The functions with names that begin with `portguard` are BPF global functions: the verifier checks them once, and not
//! again on each path that calls them.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::address::V4;
use portguard_common::conditions::Covered;
use portguard_common::entry::Number;
use portguard_common::lookup::{self, Blocks, DirectTable, Lookup, form, hint};
use portguard_common::policy::SLOTS;

use crate::family::Family;
use crate::maps;

/// Looks up an IPv4 source in the list in force. Returns [`Covered::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_look_up_v4(source: V4) -> u32 {
    Covered::word(look_up(source))
}

/// Looks up an IPv6 source, of which `first` and `second` are the halves, in the list in force. Returns [`Covered::word`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_look_up_v6(first: u64, second: u64) -> u32 {
    Covered::word(look_up([first, second]))
}

/// Looks up a source in the list in force. It makes a call only for what the direct table, and the prefilter of a long list, leave
/// undecided.
#[inline(always)]
pub(crate) fn look_up_at_once<A: Family>(source: A) -> Option<Covered> {
    let lookup = maps::lookup();
    let slot = slot(lookup);
    let direct_table = A::direct_table(lookup, slot);
    match hint(direct_table, source) {
        hint::DENIED => None,
        hint::COVERED => Some(Covered::WITHOUT_CONDITIONS),
        // A short list: its blocks are in the direct table, so the look-up needs no call.
        _ if direct_table.form == form::DIRECT => {
            match lookup::search_nearby(direct_table, source, |leaf| source.is_in(leaf).then_some(0)) {
                Some(found) => found.map(|_| Covered::WITHOUT_CONDITIONS),
                None => source.look_up(),
            }
        }
        _ if maps::has_conditions() && direct_table.form == form::DIRECT | form::CONDITIONS => {
            match lookup::search_nearby(direct_table, source, |leaf| source.number_in(leaf)) {
                Some(found) => found.map(|number| covered(lookup, slot, number)),
                None => source.look_up(),
            }
        }
        _ if lookup::is_filtered_out(direct_table, &BlocksOf::of(direct_table), source) => None,
        _ => source.look_up(),
    }
}

/// The slot of the list in force.
#[inline(always)]
fn slot(lookup: &Lookup) -> usize {
    // SAFETY: a valid reference; the loader stores the slot in one aligned write.
    unsafe { (&raw const lookup.active).read_volatile() as usize }
}

#[inline(always)]
fn look_up<A: Family>(source: A) -> Option<Covered> {
    let lookup = maps::lookup();
    let slot = slot(lookup);
    let direct_table = A::direct_table(lookup, slot);
    match hint(direct_table, source) {
        hint::DENIED => return None,
        hint::COVERED => return Some(Covered::WITHOUT_CONDITIONS),
        _ => {}
    }
    let found = if direct_table.form & form::DIRECT != 0 {
        lookup::search(direct_table, direct_table, source)
    } else {
        lookup::search(direct_table, &BlocksOf::of(direct_table), source)
    };
    match found {
        Some(found) => found.map(|number| covered(lookup, slot, number)),
        None => {
            let number = in_trie(slot, source)?.get()?;
            let has_conditions = number < lookup.conditions[slot % SLOTS].count;
            Some(covered(lookup, slot, if has_conditions { number + 1 } else { 0 }))
        }
    }
}

/// What the list in a slot says of a source if the index has this number for it.
#[inline(always)]
fn covered(lookup: &Lookup, slot: usize, number: u32) -> Covered {
    match number.checked_sub(1) {
        Some(at) if maps::has_conditions() => {
            Covered::with_conditions(lookup.conditions[slot % SLOTS].first.wrapping_add(at))
        }
        _ => Covered::WITHOUT_CONDITIONS,
    }
}

/// Which entry of the list in a slot covers the longest prefix of the trie that contains the source.
#[inline(always)]
fn in_trie<A: Family>(slot: usize, source: A) -> Option<Number> {
    let on_stack = StackKey { _aligned: 0, key: Key::new(A::BITS, source) };
    let place = A::list().get(&on_stack.key)?;
    Some(A::entries().get(*place)?.numbers[slot % SLOTS])
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
