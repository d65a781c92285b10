//! Looks up sources that the direct table of an index leaves undecided: in the rest of the index, and then in the trie.
//!
//! The two entry points are BPF global functions: the verifier checks them once, and not again on each path that calls
//! them.

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::address::V4;
use portguard_common::lookup::{self, Blocks};

use crate::family::Family;
use crate::maps::IndexLines;

/// Whether the list in a slot covers an IPv4 source. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_covers_v4(slot: u32, source: V4) -> u32 {
    covers(slot, source).into()
}

/// Whether the list in a slot covers an IPv6 source, of which `first` and `second` are the halves. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_covers_v6(slot: u32, first: u64, second: u64) -> u32 {
    covers(slot, [first, second]).into()
}

#[inline(always)]
fn covers<A: Family>(slot: u32, source: A) -> bool {
    search(slot, source).unwrap_or_else(|| {
        let on_stack = StackKey { _aligned: 0, key: Key::new(A::BITS, source) };
        A::lists().get(slot).is_some_and(|trie| trie.get(&on_stack.key).is_some())
    })
}

#[inline(always)]
fn search<A: Family>(slot: u32, source: A) -> Option<bool> {
    let direct_table = A::direct_tables().get(slot)?;
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
