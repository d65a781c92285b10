//! The allowlist in force, and the one exit of the program: counter first, then action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use portguard_common::index::hint;
use portguard_common::policy::Policy;
use portguard_common::verdict::{Court, Fault, Verdict};

use crate::accounting::Account;
use crate::denied::Packed;
use crate::family::Family;
use crate::maps::POLICY;
use crate::packet;

/// Judges a frame.
pub(crate) struct KernelCourt {
    pub(crate) ctx: *mut xdp_md,
    pub(crate) extent: Extent,
}

/// What part of the frame is being judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it, in one buffer.
    OneBuffer,
    /// Its first buffer. What is not in there may be in the next.
    FirstBuffer,
    /// All of it, in however many buffers.
    AllBuffers,
}

impl KernelCourt {
    /// The length of the whole frame. Asked only when it matters: most frames are somebody else's business.
    #[inline(always)]
    fn frame_len(&self) -> u64 {
        let ctx = XdpContext::new(self.ctx);
        match self.extent {
            Extent::OneBuffer => packet::first_len(&ctx),
            Extent::FirstBuffer | Extent::AllBuffers => packet::len(&ctx),
        }
    }

    #[inline(always)]
    fn goes_on(&self) -> bool {
        self.extent == Extent::FirstBuffer && packet::goes_on(&XdpContext::new(self.ctx))
    }
}

impl<A: Family + PartialEq> Court<A> for KernelCourt {
    type Outcome = u32;

    /// Asks the list in the active slot. An empty slot covers nobody.
    #[inline(always)]
    fn covers(&self, source: A) -> bool {
        let Some(policy) = policy() else { return false };
        // SAFETY: `policy` is valid; the loader stores the slot in one aligned write.
        let slot = unsafe { (&raw const (*policy).active).read_volatile() };
        let Some(front) = A::fronts().get(slot) else { return false };
        match hint(front, source) {
            hint::DENIED => false,
            hint::COVERED => true,
            _ => source.is_on_list(slot),
        }
    }

    #[inline(always)]
    fn settle(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        let may_go_on = match verdict {
            Verdict::Pass => return XDP_PASS,
            Verdict::Allow => false,
            Verdict::Deny(denied) => denied.request.is_not_rpc(),
            Verdict::Reject(fault) => fault == Fault::Truncated,
        };
        if may_go_on && self.goes_on() {
            return crate::portguard_scattered(self.ctx);
        }
        let bytes = self.frame_len() - link_header_len as u64;
        match verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::Allow => {
                Account::open(bytes).allowed();
                XDP_PASS
            }
            Verdict::Deny(denied) => denied.source.denied(self.ctx, Packed::new(&denied, bytes)),
            Verdict::Reject(fault) => {
                let mut account = Account::open(bytes);
                account.rejected(fault);
                refuse(account)
            }
        }
    }
}

/// What becomes of a packet that is not to pass, after it has been counted: the action.
#[inline(always)]
pub(crate) fn refuse(mut account: Account) -> u32 {
    if is_audit() {
        account.let_through_in_audit_mode();
        return XDP_PASS;
    }
    XDP_DROP
}

/// Whether nothing is dropped.
#[inline(always)]
pub(crate) fn is_audit() -> bool {
    // SAFETY: `policy` is valid; the loader stores the field in one aligned write.
    policy().is_some_and(|policy| unsafe { (&raw const (*policy).audit).read_volatile() } != 0)
}

/// The one policy, valid for as long as the program runs.
#[inline(always)]
fn policy() -> Option<*const Policy> {
    POLICY.get_ptr(0)
}
