//! The allowlist in force, and the one exit of the program: counter first, then action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::policy::Policy;
use portguard_common::verdict::{Court, Verdict};

use crate::accounting::Account;
use crate::family::Family;
use crate::maps::POLICY;

/// Judges a frame of `frame_len` bytes.
pub(crate) struct KernelCourt {
    pub(crate) frame_len: u64,
}

impl<A: Family> Court<A> for KernelCourt {
    type Outcome = u32;

    /// Asks the list in the active slot. An empty slot covers nobody.
    #[inline(always)]
    fn covers(&self, source: A) -> bool {
        let Some(policy) = policy() else { return false };
        // SAFETY: `policy` is valid; the loader stores the slot in one aligned write.
        let slot = unsafe { (&raw const (*policy).active).read_volatile() };
        A::lists().get(slot).is_some_and(|trie| trie.get(&Key::new(A::BITS, source)).is_some())
    }

    #[inline(always)]
    fn settle(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        let account = match verdict {
            Verdict::Pass => return XDP_PASS,
            _ => Account::open(self.frame_len - link_header_len as u64),
        };
        match verdict {
            Verdict::Pass => return XDP_PASS,
            Verdict::Allow => {
                account.allowed();
                return XDP_PASS;
            }
            Verdict::Deny(knock) => account.denied(knock),
            Verdict::Reject(fault) => account.rejected(fault),
        }
        if is_audit() {
            account.let_through_in_audit_mode();
            return XDP_PASS;
        }
        XDP_DROP
    }
}

#[inline(always)]
fn is_audit() -> bool {
    // SAFETY: `policy` is valid; the loader stores the field in one aligned write.
    policy().is_some_and(|policy| unsafe { (&raw const (*policy).audit).read_volatile() } != 0)
}

/// The one policy, valid for as long as the program runs.
#[inline(always)]
fn policy() -> Option<*const Policy> {
    POLICY.get_ptr(0)
}
