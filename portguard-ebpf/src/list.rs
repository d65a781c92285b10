//! Looks up sources in the list in force: in the index, and then in the trie.
//!
//! The functions with names that begin with `portguard` are BPF global functions: the verifier checks them once, and not
//! again on each path that calls them.

use core::marker::PhantomData;

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use portguard_common::address::V4;
use portguard_common::conditions::{self, Terms};
use portguard_common::entry::Number;
use portguard_common::lookup::{self, Blocks, DirectTable, Lookup, form, hint};
use portguard_common::policy::SLOTS;
use portguard_common::reason::Denial;

use crate::budget::InMap;
use crate::family::Family;
use crate::maps::{self, CONDITIONS};

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

/// What the list in force says of an IPv4 source that it covers: [`Terms`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_terms_v4(source: V4) -> u64 {
    terms(source).0
}

/// What the list in force says of an IPv6 source that it covers, of which `first` and `second` are the halves: [`Terms`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_terms_v6(first: u64, second: u64) -> u64 {
    terms([first, second]).0
}

/// Takes one of the packets that the conditions with this number let pass in this second. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_takes_one(number: u32) -> u32 {
    let Some(conditions) = CONDITIONS.get_ptr_mut(number) else { return 0 };
    // SAFETY: the map holds conditions, and the loader does not change those of a list in force but for their deadlines.
    let rate = unsafe { (*conditions).rate };
    // SAFETY: the conditions stay while the program runs.
    let budget = unsafe { InMap::new(&raw mut (*conditions).budget) };
    conditions::take(&budget, rate, (now() / NANOSECONDS) as u32).into()
}

/// See [`portguard_takes_one`].
#[inline(always)]
pub(crate) fn takes_one(number: u32) -> bool {
    portguard_takes_one(number) != 0
}

const NANOSECONDS: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
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
            lookup::search_nearby(direct_table, source, |leaf| source.is_in(leaf))
                .unwrap_or_else(|| source.is_on_list())
        }
        _ if maps::has_conditions() && direct_table.form == form::DIRECT | form::CONDITIONS => {
            lookup::search_nearby(direct_table, source, |leaf| source.number_in(leaf).is_some())
                .unwrap_or_else(|| source.is_on_list())
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

/// Both look-ups of a packet, this one and the one before it, may be in different lists if a reload comes between them. What they say
/// together is then what one of the two lists says.
#[inline(always)]
fn terms<A: Family>(source: A) -> Terms {
    let lookup = maps::lookup();
    let slot = slot(lookup);
    match number(lookup, slot, source) {
        None => Terms::denied(Denial::NotAllowed),
        Some(0) => Terms::permit(maps::udp_calls()),
        Some(number) => {
            let place = lookup.conditions[slot % SLOTS].first.wrapping_add(number - 1);
            // The loader leaves no entry without its conditions. Fail closed.
            CONDITIONS
                .get(place)
                .map_or(Terms::denied(Denial::NotAllowed), |conditions| conditions.terms(place, now))
        }
    }
}

/// The number of the conditions of the entry that decides about a source.
#[inline(always)]
fn number<A: Family>(lookup: &Lookup, slot: usize, source: A) -> Option<u32> {
    let direct_table = A::direct_table(lookup, slot);
    match hint(direct_table, source) {
        hint::DENIED => return None,
        hint::COVERED => return Some(0),
        _ => {}
    }
    let found = if direct_table.form & form::DIRECT != 0 {
        lookup::search_number(direct_table, direct_table, source)
    } else {
        lookup::search_number(direct_table, &BlocksOf::of(direct_table), source)
    };
    found.unwrap_or_else(|| {
        let number = in_trie(slot, source)?.get()?;
        Some(if number < lookup.conditions[slot % SLOTS].count { number + 1 } else { 0 })
    })
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
    in_trie(slot, source).is_some_and(Number::covers)
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
