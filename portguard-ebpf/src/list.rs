//! Whether a list covers a source that the front of its index leaves undecided: by its index, or by its trie.
//!
//! Both are BPF global functions, so that the verifier checks them once and not with each of the ways that lead here.

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::address::V4;
use portguard_common::index::{self, Lines};

use crate::family::Family;
use crate::maps::IndexLines;

/// For IPv4. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_covers_v4(slot: u32, source: V4) -> u32 {
    covers(slot, source).into()
}

/// For IPv6; the halves of the source. Returns 0 or 1.
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
    let front = A::fronts().get(slot)?;
    if front.has_lines != 0 {
        return index::search(front, front, source);
    }
    index::search(front, &LinesOf(A::indexes().get(slot)?), source)
}

/// The lines of an index in their map.
struct LinesOf<A: Family>(&'static IndexLines<A>);

impl<A: Family> Lines<A> for LinesOf<A> {
    #[inline(always)]
    fn line(&self, number: u32) -> Option<&A::Line> {
        self.0.get(number)
    }
}

/// A key of a trie, with its address at a multiple of eight bytes. The compiler takes it that memory may be accessed at
/// any address (the loads from packets are three times as many without), but on the stack the verifier does not.
#[repr(C, align(8))]
struct StackKey<A> {
    _aligned: u32,
    key: Key<A>,
}
