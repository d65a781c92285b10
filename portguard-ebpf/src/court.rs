//! The allowlist in force, and the one exit of the program: counter first, then action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::policy::Policy;
use portguard_common::verdict::{Court, Fault, Verdict};

use crate::accounting::Account;
use crate::family::Family;
use crate::maps::POLICY;

/// Judges a frame.
pub(crate) struct KernelCourt {
    /// Its length in bytes.
    pub(crate) frame_len: u64,
    /// Where to look for what is not in the part that is being judged, if there is more of the frame.
    pub(crate) elsewhere: Option<*mut xdp_md>,
}

impl<A: Family + PartialEq> Court<A> for KernelCourt {
    type Outcome = u32;

    /// Asks the list in the active slot. An empty slot covers nobody.
    #[inline(always)]
    fn covers(&self, source: A) -> bool {
        let Some(policy) = policy() else { return false };
        // SAFETY: `policy` is valid; the loader stores the slot in one aligned write.
        let slot = unsafe { (&raw const (*policy).active).read_volatile() };
        let on_stack = StackKey { _offset: 0, key: Key::new(A::BITS, source) };
        A::lists().get(slot).is_some_and(|trie| trie.get(&on_stack.key).is_some())
    }

    #[inline(always)]
    fn settle(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        if verdict == Verdict::Reject(Fault::Truncated)
            && let Some(ctx) = self.elsewhere
        {
            return crate::portguard_scattered(ctx);
        }
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

/// A key of a trie, with its address at a multiple of eight bytes. The compiler takes it that memory may be accessed at
/// any address (the loads from packets are three times as many without), but on the stack the verifier does not.
#[repr(C, align(8))]
struct StackKey<A> {
    _offset: u32,
    key: Key<A>,
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
