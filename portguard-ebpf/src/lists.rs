//! The allowlist in force, as the verdict asks for it.

use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::transport::Source;
use portguard_common::verdict::Allowlist;

use crate::maps::{LISTS_V4, LISTS_V6, POLICY};

/// The list in the active slot. An empty slot covers nobody.
pub(crate) struct ListInForce;

impl Allowlist for ListInForce {
    #[inline(always)]
    fn covers(&self, source: Source<'_>) -> bool {
        let Some(policy) = POLICY.get_ptr(0) else { return false };
        // SAFETY: the map holds one `Policy` for as long as the program runs; the loader stores the slot in one
        // aligned write.
        let slot = unsafe { (&raw const (*policy).active).read_volatile() };
        match source {
            Source::V4(&address) => {
                LISTS_V4.get(slot).is_some_and(|trie| trie.get(&Key::new(32, address)).is_some())
            }
            Source::V6(&address) => {
                LISTS_V6.get(slot).is_some_and(|trie| trie.get(&Key::new(128, address)).is_some())
            }
        }
    }
}
