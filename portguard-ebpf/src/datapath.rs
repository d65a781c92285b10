//! The allowlist in force, and the one exit of the program: counter first, then action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use portguard_common::lookup::{self, hint};
use portguard_common::policy::Policy;
use portguard_common::verdict::{Datapath, Fault, UNDECLARED, Verdict};

use crate::accounting::Account;
use crate::connected;
use crate::denied::{self, Packet};
use crate::family::Family;
use crate::maps::{self, POLICY};
use crate::packet;

/// The kernel's side of a verdict on one frame.
pub(crate) struct KernelDatapath {
    pub(crate) ctx: *mut xdp_md,
    pub(crate) extent: Extent,
}

/// The part of the frame that the parser reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it, in one buffer.
    OneBuffer,
    /// Its first buffer. Headers that are not in it may be in the next one.
    FirstBuffer,
    /// All of it, in any number of buffers.
    AllBuffers,
}

impl KernelDatapath {
    /// The length of the packet that begins `start` bytes into the frame, up to the end of the frame.
    ///
    /// The length of a frame in several buffers takes a call, and calls have the highest cost on processors that need a
    /// safe return. If the declared length of a packet ends in the first buffer, the other buffers do not count.
    #[inline(always)]
    fn packet_len(&self, start: usize, declared: usize) -> u64 {
        let ctx = XdpContext::new(self.ctx);
        let in_first_buffer = packet::first_len(&ctx) - start as u64;
        match self.extent {
            Extent::OneBuffer => in_first_buffer,
            Extent::FirstBuffer if declared as u64 <= in_first_buffer => in_first_buffer,
            Extent::FirstBuffer | Extent::AllBuffers => packet::len(&ctx) - start as u64,
        }
    }

    /// Whether the parser has read the first buffer only, and the packet continues after it: by its declared length, and
    /// because there is another buffer.
    #[inline(always)]
    fn goes_on(&self, start: usize, declared: usize) -> bool {
        let ctx = XdpContext::new(self.ctx);
        self.extent == Extent::FirstBuffer
            && declared as u64 > packet::first_len(&ctx) - start as u64
            && packet::goes_on(&ctx)
    }
}

impl<A: Family + PartialEq> Datapath<A> for KernelDatapath {
    type Outcome = u32;

    /// Looks the source up in the list in the active slot. An empty slot covers no source.
    #[inline(always)]
    fn covers(&self, source: A) -> bool {
        let Some(policy) = policy() else { return false };
        // SAFETY: `policy` is valid; the loader stores the slot in one aligned write.
        let slot = unsafe { (&raw const (*policy).active).read_volatile() };
        let Some(direct_table) = A::direct_tables().get(slot) else { return false };
        match hint(direct_table, source) {
            hint::DENIED => false,
            hint::COVERED => true,
            // A short list: its blocks are in the direct table, so the look-up needs no call.
            _ if direct_table.has_blocks != 0 => {
                lookup::search_nearby(direct_table, source).unwrap_or_else(|| source.is_on_list(slot))
            }
            _ => source.is_on_list(slot),
        }
    }

    #[inline(always)]
    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        match verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::Allow { declared_len } => {
                Account::open(self.packet_len(link_header_len, declared_len)).allowed();
                XDP_PASS
            }
            Verdict::Deny(denied) => {
                if denied.request.is_not_rpc() && self.goes_on(link_header_len, denied.declared_len) {
                    return crate::portguard_scattered(self.ctx);
                }
                let packet = Packet::new(&denied, self.packet_len(link_header_len, denied.declared_len));
                if maps::is_audit() && self.extent != Extent::AllBuffers && denied.request.is_call_over_tcp()
                {
                    connected::portguard_connected(self.ctx);
                }
                match self.extent {
                    // Rare, and in a function that has little stack left: a call has a stack frame of its own.
                    Extent::AllBuffers => denied.source.denied(self.ctx, packet),
                    Extent::OneBuffer | Extent::FirstBuffer => {
                        denied::finish(self.ctx, denied.source, packet)
                    }
                }
            }
            Verdict::Reject(fault) => {
                if fault == Fault::Truncated && self.goes_on(link_header_len, UNDECLARED) {
                    return crate::portguard_scattered(self.ctx);
                }
                let mut account = Account::open(self.packet_len(link_header_len, UNDECLARED));
                account.rejected(fault);
                refuse(account)
            }
        }
    }
}

/// The action for a denied or faulty packet, which has been counted.
#[inline(always)]
pub(crate) fn refuse(mut account: Account) -> u32 {
    if maps::is_audit() {
        account.let_through_in_audit_mode();
        return XDP_PASS;
    }
    XDP_DROP
}

/// The only policy, valid for as long as the program runs.
#[inline(always)]
fn policy() -> Option<*const Policy> {
    POLICY.get_ptr(0)
}
