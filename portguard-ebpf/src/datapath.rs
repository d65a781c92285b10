//! Judges any frame: the way of all that [`crate::fast_path`] does not take. Counter first, then action.

use portguard_common::calls::{self, UdpCalls};
use portguard_common::conditions::Covered;
use portguard_common::cursor::Cursor;
use portguard_common::reason::DropReason;
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;
use portguard_common::verdict::{self, Datapath, Denial, Fault, HeaderAt, UNDECLARED, Verdict, ends_within};

use crate::accounting::Account;
use crate::denied::Packet;
use crate::family::Family;
use crate::hook::{Hook, Part, SCATTERED, Step};
use crate::maps::{self, CONDITIONS};
use crate::{budget, clock};

/// The length of a UDP header in bytes (RFC 768).
const UDP_HEADER: u64 = 8;

/// Judges a packet; `frame` is a cursor at the first byte of a part of it. Returns the action, or [`SCATTERED`] if more of the packet than that
/// part decides.
#[inline(always)]
pub(crate) fn judge<H: Hook>(hook: H, frame: impl Cursor, part: Part) -> u32 {
    let can_go_on = part == Part::FirstBuffer;
    verdict::judge(frame, hook.start(), &AnyFrame { hook, part, can_go_on }, &Step { hook, part })
}

/// The same by a cursor over all buffers. It decides if it `is_last`; else the cursor may reach the end of the first one only.
#[inline(always)]
pub(crate) fn judge_any_buffer<H: Hook>(hook: H, frame: impl Cursor, is_last: bool) -> u32 {
    let part = Part::AllBuffers;
    verdict::judge(frame, hook.start(), &AnyFrame { hook, part, can_go_on: !is_last }, &Step { hook, part })
}

/// The kernel's side of a verdict on one frame.
struct AnyFrame<H> {
    hook: H,
    part: Part,
    /// Whether more of the packet can be looked at.
    can_go_on: bool,
}

impl<H: Hook> AnyFrame<H> {
    /// The length of the packet that begins `start` bytes into the frame, up to the end of the frame.
    ///
    /// If the declared length of a packet ends in the first buffer, the other buffers do not count. Where it is not known what is in front
    /// of the packet, the declared length tells.
    #[inline(always)]
    fn packet_len(&self, start: usize, declared: usize) -> u64 {
        let in_first_buffer = self.hook.first_len() - start as u64;
        if self.part == Part::FirstBuffer && ends_within(declared, in_first_buffer) {
            return in_first_buffer;
        }
        let in_all = self.hook.len() - start as u64;
        if !self.hook.begins_with_buffer() && ends_within(declared, in_all) {
            declared as u64
        } else {
            in_all
        }
    }

    /// Whether the parser has read the first buffer only, and the packet continues after it: by its declared length, and
    /// because there is another buffer. What is in front of a packet in its first buffer is not known, so any may end after it.
    #[inline(always)]
    fn goes_on(&self, start: usize, declared: usize) -> bool {
        self.can_go_on
            && (self.part == Part::AllBuffers || !ends_within(declared, self.hook.first_len() - start as u64))
            && self.hook.goes_on()
    }
}

impl<H: Hook> AnyFrame<H> {
    /// What a packet of so many bytes counts as, which begins `start` bytes into the frame: each of those that the kernel has merged has
    /// the headers of the first one (`qdisc_pkt_len_init` in `net/core/dev.c`).
    #[inline(always)]
    fn count(&self, bytes: u64, start: usize, protocol: Protocol, header_at: HeaderAt) -> Count {
        let Some(merged) = self.hook.merged() else { return Count::packet(bytes) };
        let header = header_at.offset();
        let transport = match protocol {
            Protocol::Udp => UDP_HEADER,
            Protocol::Tcp => self.tcp_header_len(header),
        };
        merged.count(bytes, (header - start) as u64 + transport)
    }

    /// The length of the TCP header that is there (RFC 9293, section 3.1).
    #[inline(always)]
    fn tcp_header_len(&self, offset: usize) -> u64 {
        let mut data_offset = 0_u8;
        let at = (&raw mut data_offset).cast();
        // What is cut short has no more than the ports.
        if self.hook.copy(offset as u32 + 12, at, 1) { u64::from(data_offset >> 4) * 4 } else { 0 }
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
            Verdict::Allow { protocol, declared_len, header_at } => {
                let bytes = self.packet_len(link_header_len, declared_len);
                Account::open(self.count(bytes, link_header_len, protocol, header_at)).allowed();
                H::PASS
            }
            Verdict::Deny(denied) => {
                let is_clear = denied.reason == Denial::NotAllowed && !denied.request.is_not_rpc();
                if !is_clear && self.goes_on(link_header_len, denied.declared_len) {
                    return SCATTERED;
                }
                let bytes = self.packet_len(link_header_len, denied.declared_len);
                let protocol = denied.request.protocol();
                let packet =
                    Packet::new(&denied, self.count(bytes, link_header_len, protocol, denied.header_at));
                let can_be_witnessed = self.part == Part::FirstBuffer || !self.hook.begins_with_buffer();
                if maps::is_audit() && can_be_witnessed && denied.request.is_call_over_tcp() {
                    self.hook.connected();
                }
                denied.source.denied(self.hook, packet)
            }
            Verdict::Reject(fault) => {
                if fault == Fault::Truncated && self.goes_on(link_header_len, UNDECLARED) {
                    return SCATTERED;
                }
                let mut account = Account::open(Count::packet(self.packet_len(link_header_len, UNDECLARED)));
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
        return refusal_of_call(hook, conditions.permitted(), header_at, part).or_else(|| {
            let is_exceeded = conditions.rate != 0 && !budget::takes(place, datagrams(hook, header_at));
            is_exceeded.then_some(Denial::RateExceeded)
        });
    }
    let calls = maps::udp_calls();
    if calls == UdpCalls::All || protocol == Protocol::Tcp {
        return None;
    }
    refusal_of_call(hook, calls, header_at, part)
}

/// How many datagrams the kernel has merged into a packet whose UDP header is there.
#[inline(always)]
fn datagrams<H: Hook>(hook: H, header_at: HeaderAt) -> u32 {
    let headers = header_at.offset() as u64 + UDP_HEADER;
    hook.merged().map_or(1, |merged| merged.packets(hook.len(), headers) as u32)
}

/// Why this packet may not come over UDP, if only these calls are permitted.
#[inline(always)]
fn refusal_of_call<H: Hook>(hook: H, calls: UdpCalls, header_at: HeaderAt, part: Part) -> Option<Denial> {
    // Of several calls, one can be hidden.
    let is_permitted = calls == UdpCalls::All
        || (calls == UdpCalls::Lookups && hook.merged().is_none() && hook.is_lookup(header_at, part));
    (!is_permitted).then_some(Denial::CallNotAllowed)
}

/// [`Hook::is_lookup`] for a frame that begins at the cursor. Returns 0 or 1.
#[inline(always)]
pub(crate) fn is_lookup(frame: impl Cursor, header_at: HeaderAt) -> u32 {
    if header_at.is_in_fragment() {
        return 0;
    }
    frame.at(header_at.offset()).is_some_and(calls::is_lookup).into()
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
