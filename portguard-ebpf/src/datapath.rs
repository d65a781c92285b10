//! Judges any frame: the way of all that [`crate::fast_path`] does not take. Counter first, then action.

use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Covered;
use portguard_common::cursor::Cursor;
use portguard_common::reason::DropReason;
use portguard_common::transport::Protocol;
use portguard_common::verdict::{self, Datapath, Denial, Fault, HeaderAt, UNDECLARED, Verdict, ends_within};

use crate::accounting::Account;
use crate::denied::Packet;
use crate::family::Family;
use crate::hook::{Hook, Part, SCATTERED, Step};
use crate::maps::{self, CONDITIONS};
use crate::{budget, clock};

/// Judges a packet; `frame` is a cursor at the first byte of a part of it. Returns the action.
#[inline(always)]
pub(crate) fn judge<H: Hook>(hook: H, frame: impl Cursor, part: Part) -> u32 {
    verdict::judge(frame, maps::link_type(), &AnyFrame { hook, part }, &Step { hook, part })
}

/// The kernel's side of a verdict on one frame.
struct AnyFrame<H> {
    hook: H,
    part: Part,
}

impl<H: Hook> AnyFrame<H> {
    /// The length of the packet that begins `start` bytes into the frame, up to the end of the frame.
    ///
    /// If the declared length of a packet ends in the first buffer, the other buffers do not count.
    #[inline(always)]
    fn packet_len(&self, start: usize, declared: usize) -> u64 {
        let in_first_buffer = self.hook.first_len() - start as u64;
        match self.part {
            Part::FirstBuffer if ends_within(declared, in_first_buffer) => in_first_buffer,
            Part::FirstBuffer | Part::AllBuffers => self.hook.len() - start as u64,
        }
    }

    /// Whether the parser has read the first buffer only, and the packet continues after it: by its declared length, and
    /// because there is another buffer.
    #[inline(always)]
    fn goes_on(&self, start: usize, declared: usize) -> bool {
        self.part == Part::FirstBuffer
            && !ends_within(declared, self.hook.first_len() - start as u64)
            && self.hook.goes_on()
    }
}

impl<H: Hook, A: Family> Datapath<A> for AnyFrame<H> {
    type Outcome = u32;
    type Covered = Covered;

    #[inline(always)]
    fn look_up(&self, source: A) -> Option<Covered> {
        source.look_up()
    }

    #[inline(always)]
    fn refusal(&self, covered: Covered, protocol: Protocol, header_at: HeaderAt) -> Option<Denial> {
        refusal(self.hook, covered, protocol, header_at, self.part)
    }

    #[inline(always)]
    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> u32 {
        match verdict {
            Verdict::Pass => H::PASS,
            Verdict::Allow { declared_len } => {
                Account::open(self.packet_len(link_header_len, declared_len)).allowed();
                H::PASS
            }
            Verdict::Deny(denied) => {
                let is_clear = denied.reason == Denial::NotAllowed && !denied.request.is_not_rpc();
                if !is_clear && self.goes_on(link_header_len, denied.declared_len) {
                    return SCATTERED;
                }
                let packet = Packet::new(&denied, self.packet_len(link_header_len, denied.declared_len));
                if maps::is_audit() && self.part == Part::FirstBuffer && denied.request.is_call_over_tcp() {
                    self.hook.connected();
                }
                denied.source.denied(self.hook, packet)
            }
            Verdict::Reject(fault) => {
                if fault == Fault::Truncated && self.goes_on(link_header_len, UNDECLARED) {
                    return SCATTERED;
                }
                let mut account = Account::open(self.packet_len(link_header_len, UNDECLARED));
                account.dropped(DropReason::Fault(fault));
                refuse::<H>(account)
            }
            // Every frame is judged here. Fail closed.
            Verdict::Uncommon => H::DROP,
        }
    }
}

/// Why a listed source may not send this packet, of which the parser has read a part.
#[inline(always)]
pub(crate) fn refusal<H: Hook>(
    hook: H,
    covered: Covered,
    protocol: Protocol,
    header_at: HeaderAt,
    part: Part,
) -> Option<Denial> {
    // Constants first: the verifier then removes the rest.
    if maps::has_conditions()
        && let Some(place) = covered.conditions()
    {
        // The loader leaves no entry without its conditions. Fail closed.
        let Some(conditions) = CONDITIONS.get(place) else { return Some(Denial::NotAllowed) };
        let denial = conditions.denial(clock::at_tick);
        if denial.is_some() || protocol == Protocol::Tcp {
            return denial;
        }
        // The rate comes last: what is denied for another reason does not count.
        return refusal_of_call(hook, conditions.permitted(), header_at, part)
            .or_else(|| (conditions.rate != 0 && !budget::takes_one(place)).then_some(Denial::RateExceeded));
    }
    let calls = maps::udp_calls();
    if calls == UdpCalls::All || protocol == Protocol::Tcp {
        return None;
    }
    refusal_of_call(hook, calls, header_at, part)
}

/// Why this packet may not come over UDP, if only these calls are permitted.
#[inline(always)]
fn refusal_of_call<H: Hook>(hook: H, calls: UdpCalls, header_at: HeaderAt, part: Part) -> Option<Denial> {
    let is_permitted =
        calls == UdpCalls::All || (calls == UdpCalls::Lookups && hook.is_lookup(header_at, part));
    (!is_permitted).then_some(Denial::CallNotAllowed)
}

/// The action for a denied or faulty packet, which has been counted.
#[inline(always)]
pub(crate) fn refuse<H: Hook>(mut account: Account) -> u32 {
    if maps::is_audit() {
        account.let_through_in_audit_mode();
        return H::PASS;
    }
    H::DROP
}
