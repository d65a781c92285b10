//! The verdict on a frame.

use crate::address::{Address, V4, V6};
use crate::cursor::Cursor;
use crate::frame::{self, Link, Start};
use crate::ipv6::{ChainStep, Position};
pub use crate::reason::{Denial, Fault};
use crate::rpc::Request;
use crate::transport::Protocol;
use crate::{ipv4, ipv6};

/// A TCP segment or UDP datagram for the guarded port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<A, C> {
    /// Its source address, which may be forged.
    pub(crate) source: A,
    /// The destination address in its IP header.
    pub(crate) destination: A,
    /// Its source port, in network byte order.
    pub(crate) source_port_be: [u8; 2],
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
    /// A cursor at the start of its TCP or UDP header.
    pub(crate) header: C,
    /// See [`Denied::declared_len`].
    pub(crate) declared_len: usize,
    /// Where its TCP or UDP header is.
    pub(crate) header_at: HeaderAt,
}

/// Where the TCP or UDP header of a packet is, and whether the packet is the first fragment of several: a [`Position`], and the flags of
/// IPv4 above its bits.
///
/// Nobody takes it apart before it matters. Otherwise the compiler would keep the offset on the stack, and the verifiers of Linux 5.10 and
/// 6.1 would forget the bound of the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderAt(pub u64);

impl HeaderAt {
    const FLAGS_SHIFT: u32 = 48;

    /// In IPv4, with the flags and the fragment offset of its header, as its two bytes are read as a native integer.
    #[inline(always)]
    pub(crate) fn of_ipv4(position: Position, flags: u16) -> Self {
        Self(position.0 | u64::from(flags) << Self::FLAGS_SHIFT)
    }

    /// In a common frame, with so many bytes in front of the IP header.
    #[inline(always)]
    fn behind<A: Address>(link_header_len: usize) -> Self {
        Self((link_header_len + A::HEADER_LEN) as u64)
    }

    /// In IPv6, at the end of the walk along its headers.
    #[inline(always)]
    pub(crate) fn of_ipv6(position: Position) -> Self {
        Self(position.0)
    }

    /// The number of bytes in front of the header.
    #[inline(always)]
    pub fn offset(self) -> usize {
        Position(self.0).offset()
    }

    /// Whether the packet is the first fragment of several.
    #[inline(always)]
    pub fn is_in_fragment(self) -> bool {
        self.0 & (Position::FRAGMENT | u64::from(ipv4::MORE_FRAGMENTS) << Self::FLAGS_SHIFT) != 0
    }
}

impl<A, C: Cursor> Candidate<A, C> {
    /// The same as one that is denied, with what it asks for.
    #[inline(always)]
    fn denied(self, reason: Denial) -> Denied<A> {
        let Self { source, destination, source_port_be, protocol, header, declared_len, header_at } = self;
        let request = Request::of(header, protocol);
        Denied { source, reason, destination, source_port_be, request, declared_len, header_at }
    }
}

/// A TCP segment or UDP datagram that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied<A> {
    /// Its source address, which may be forged.
    pub source: A,
    /// Why it is denied.
    pub reason: Denial,
    /// The destination address in its IP header. It does not influence the verdict.
    pub destination: A,
    /// Its source port, in network byte order.
    pub source_port_be: [u8; 2],
    /// The call that it contains. It is determined after the verdict, and does not influence the verdict on a stranger.
    pub request: Request,
    /// The length of the packet in bytes that its IP header declares; [`UNDECLARED`] if the header declares none.
    pub declared_len: usize,
    /// Where its TCP or UDP header is.
    pub header_at: HeaderAt,
}

/// The declared length of a packet whose IP header declares none: a jumbogram, or a packet that Linux has assembled.
pub const UNDECLARED: usize = 0;

/// Whether a packet with a declared length ends within its first `bytes`.
#[inline(always)]
pub fn ends_within(declared_len: usize, bytes: u64) -> bool {
    // One comparison for both limits: what declares nothing never ends.
    (declared_len as u64).wrapping_sub(1) < bytes
}

/// Why a parser ends before it knows whether a frame is for the guarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The frame is faulty.
    Fault(Fault),
    /// The frame is not a common one, and the caller asks for common ones only.
    Uncommon,
}

impl From<Fault> for Stop {
    #[inline(always)]
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The verdict on a frame, with its action while the guard enforces. `A` is the type of its source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// Not for the guarded port: passes, uncounted.
    Pass,
    /// For the guarded port, from a source on the allowlist: passes.
    Allow {
        /// TCP or UDP.
        protocol: Protocol,
        /// See [`Denied::declared_len`].
        declared_len: usize,
        /// Where its TCP or UDP header is.
        header_at: HeaderAt,
    },
    /// For the guarded port, from a source that may not send it: dropped.
    Deny(Denied<A>),
    /// Faulty: dropped, independently of its source.
    Reject(Fault),
    /// Not judged, because the caller asks for common frames only ([`ChainStep::FOLLOWS`]), and this is none. Common
    /// frames have at most one VLAN tag, no IPv4 options, no extension headers, and no fault; those for the port are no fragments.
    Uncommon,
}

/// Looks up addresses of one family in the allowlist, and acts on verdicts.
///
/// [`judge`] passes the verdict to [`Datapath::finish`] and does not return it. A returned verdict would be an enum over
/// both address families: the compiler would copy registers that one of its variants leaves undefined, and the verifier
/// refuses to read them.
pub trait Datapath<A: Address> {
    /// The result of acting on a verdict.
    type Outcome;

    /// What the allowlist says of a source that it covers.
    type Covered;

    /// Looks up a source in the allowlist; `None` if no entry covers it.
    fn look_up(&self, source: A) -> Option<Self::Covered>;

    /// Why a source that the allowlist covers may not send this packet; `None` if it may: see [`crate::calls`] and
    /// [`crate::conditions`].
    fn refusal(&self, covered: Self::Covered, protocol: Protocol, header_at: HeaderAt) -> Option<Denial>;

    /// Acts on a verdict. `link_header_len` is the number of bytes in front of the IP packet.
    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> Self::Outcome;
}

/// Judges a frame; `frame` is a cursor at its first byte.
///
/// `step` is [`ipv6::walk_on`] applied to the frame, or a call with the same result.
#[inline(always)]
pub fn judge<Outcome, C, S>(frame: impl Cursor, start: impl Into<Start>, datapath: &C, step: &S) -> Outcome
where
    C: Datapath<V4, Outcome = Outcome> + Datapath<V6, Outcome = Outcome>,
    S: ChainStep,
{
    let tags = if S::FOLLOWS { frame::MAX_VLAN_TAGS } else { frame::COMMON_VLAN_TAGS };
    match frame::parse(frame, start.into(), tags) {
        Link::Ipv4(packet) => finish::<_, _, _, S>(datapath, ipv4::parse(packet, step), packet),
        Link::Ipv6(packet) => finish::<_, _, _, S>(datapath, ipv6::parse(packet, step), packet),
        Link::CutShort | Link::TooManyTags(_) if !S::FOLLOWS => datapath.finish(Verdict::<V4>::Uncommon, 0),
        Link::Other | Link::CutShort => datapath.finish(Verdict::<V4>::Pass, 0),
        Link::TooManyTags(behind) => {
            datapath.finish(Verdict::<V4>::Reject(Fault::TooManyHeaders), behind.offset())
        }
    }
}

#[inline(always)]
fn finish<A: Address, K: Cursor, C: Datapath<A>, S: ChainStep>(
    datapath: &C,
    parsed: Result<Option<Candidate<A, K>>, Stop>,
    packet: K,
) -> C::Outcome {
    // One call for each verdict: if the arms made a verdict for one common call, the compiler would copy the parts of it
    // that they leave undefined.
    let finish = |verdict| datapath.finish(verdict, packet.offset());
    match parsed {
        Ok(None) => finish(Verdict::Pass),
        Ok(Some(candidate)) => {
            let Some(covered) = datapath.look_up(candidate.source) else {
                return finish(Verdict::Deny(candidate.denied(Denial::NotAllowed)));
            };
            let Candidate { protocol, declared_len, header_at, .. } = candidate;
            // Of a common frame it is known without the walk that has led there, which the compiler then forgets.
            let header_at = if S::FOLLOWS { header_at } else { HeaderAt::behind::<A>(packet.offset()) };
            if let Some(denial) = datapath.refusal(covered, protocol, header_at) {
                return finish(Verdict::Deny(candidate.denied(denial)));
            }
            finish(Verdict::Allow { protocol, declared_len, header_at })
        }
        // A fault may be none if the parser has seen the first buffer only, and another run of it decides that.
        Err(_) if !S::FOLLOWS => finish(Verdict::Uncommon),
        Err(Stop::Fault(fault)) => finish(Verdict::Reject(fault)),
        Err(Stop::Uncommon) => finish(Verdict::Uncommon),
    }
}
