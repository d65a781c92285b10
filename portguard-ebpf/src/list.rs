//! Looks up sources in the list in force: in the index, and then in the trie.
//!
//! The functions with names that begin with `portguard` are BPF global functions: the verifier checks them once, and not
//! again on each path that calls them.

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::address::V4;
use portguard_common::lookup::{self, Blocks, DirectTable, hint};

use crate::family::Family;
use crate::maps::{IndexLines, POLICY};

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

/// Whether the list in force covers a source. It makes a call only for what the direct table leaves undecided.
#[inline(always)]
pub(crate) fn covers_at_once<A: Family>(source: A) -> bool {
    // An empty slot covers no source.
    let Some(slot) = slot() else { return false };
    let Some(direct_table) = A::direct_tables().get(slot) else { return false };
    match hint(direct_table, source) {
        hint::DENIED => false,
        hint::COVERED => true,
        // A short list: its blocks are in the direct table, so the look-up needs no call.
        _ if direct_table.has_blocks != 0 => {
            lookup::search_nearby(direct_table, source).unwrap_or_else(|| source.is_on_list())
        }
        _ => source.is_on_list(),
    }
}

/// The slot of the list in force.
#[inline(always)]
fn slot() -> Option<u32> {
    let policy = POLICY.get_ptr(0)?;
    // SAFETY: `policy` is valid; the loader stores the slot in one aligned write.
    Some(unsafe { (&raw const (*policy).active).read_volatile() })
}

#[inline(always)]
fn covers<A: Family>(source: A) -> bool {
    let Some(slot) = slot() else { return false };
    let Some(direct_table) = A::direct_tables().get(slot) else { return false };
    match hint(direct_table, source) {
        hint::DENIED => return false,
        hint::COVERED => return true,
        _ => {}
    }
    search(slot, direct_table, source).unwrap_or_else(|| {
        let on_stack = StackKey { _aligned: 0, key: Key::new(A::BITS, source) };
        A::lists().get(slot).is_some_and(|trie| trie.get(&on_stack.key).is_some())
    })
}

#[inline(always)]
fn search<A: Family>(slot: u32, direct_table: &DirectTable<A>, source: A) -> Option<bool> {
    if direct_table.has_blocks != 0 {
        return lookup::search(direct_table, direct_table, source);
    }
    lookup::search(direct_table, &BlocksOf(A::indexes().get(slot)?), source)
}

/// The blocks of an index that are in a map of their own.
struct BlocksOf<A: Family>(&'static IndexLines<A>);

impl<A: Family> Blocks<A> for BlocksOf<A> {
    #[inline(always)]
    fn block(&self, number: u32) -> Option<&A::Block> {
        self.0.get(number)
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
