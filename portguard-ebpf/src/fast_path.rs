//! The path of common frames: all that decides is in the first buffer, after at most one VLAN tag, without IPv4 options or
//! extension headers. It makes no calls, except into the trie of a long list. [`crate::datapath`] takes all other frames.

use portguard_common::conditions::Covered;
use portguard_common::ipv6::CommonFrames;
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;
use portguard_common::verdict::{self, Datapath, Denial, HeaderAt, Verdict, ends_within};

use crate::accounting::Account;
use crate::denied::{self, Packet};
use crate::family::Family;
use crate::hook::{Hook, Part};
use crate::{datapath, list, maps};

/// Judges a packet. Returns the action.
#[inline(always)]
pub(crate) fn judge<H: Hook>(hook: H) -> u32 {
    if hook.merged().is_some() || !hook.begins_with_buffer() {
        return hook.judge();
    }
    verdict::judge(hook.first_buffer(), hook.start(), &FastPath(hook), &CommonFrames)
}

struct FastPath<H>(H);

impl<H: Hook, A: Family> Datapath<A> for FastPath<H> {
    type Outcome = u32;
    type Covered = Covered;

    #[inline(always)]
    fn look_up(&self, source: A) -> Option<Covered> {
        list::look_up_at_once(source)
    }

    #[inline(always)]
    fn refusal(&self, covered: Covered, protocol: Protocol, header_at: HeaderAt) -> Option<Denial> {
        datapath::refusal(self.0, covered, protocol, header_at, Part::FirstBuffer)
    }

    #[inline(always)]
    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        let hook = self.0;
        let bytes = hook.first_len() - link_header_len as u64;
        match verdict {
            Verdict::Pass => H::PASS,
            Verdict::Allow { declared_len, .. } if ends_within(declared_len, bytes) => {
                Account::open(Count::packet(bytes)).allowed();
                H::PASS
            }
            Verdict::Deny(denied) if ends_within(denied.declared_len, bytes) => {
                if maps::is_audit() && denied.request.is_call_over_tcp() {
                    hook.connected();
                }
                let packet = Packet::new(&denied, Count::packet(bytes));
                match denied.reason {
                    // The packets of a flood: without a call.
                    Denial::NotAllowed => denied::finish(hook, denied.source, packet),
                    _ => denied.source.denied(hook, packet),
                }
            }
            // Not common, or the packet may continue after the first buffer.
            Verdict::Uncommon | Verdict::Reject(_) | Verdict::Allow { .. } | Verdict::Deny(_) => hook.judge(),
        }
    }
}
