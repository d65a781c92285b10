//! What becomes of a frame.

use crate::address::{Address, V4, V6};
use crate::cursor::Cursor;
use crate::frame::{self, Link, LinkType};
use crate::ipv6::ChainStep;
pub use crate::reason::Fault;
use crate::rpc::Request;
use crate::transport::Protocol;
use crate::{ipv4, ipv6};

/// A TCP segment or UDP datagram for the guarded port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<A, C> {
    /// Who sent it, if the sender is honest.
    pub(crate) source: A,
    /// From which port, as on the wire.
    pub(crate) source_port_be: [u8; 2],
    /// Over which protocol.
    pub(crate) protocol: Protocol,
    /// Where its header begins.
    pub(crate) header: C,
    /// See [`Denied::declared_len`].
    pub(crate) declared_len: usize,
}

/// A TCP segment or UDP datagram that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied<A> {
    /// Who sent it, if the sender is honest.
    pub source: A,
    /// From which port, as on the wire.
    pub source_port_be: [u8; 2],
    /// What it asks for. Found out after the verdict, on which it has no influence.
    pub request: Request,
    /// How long the packet is by what its IP header says, in bytes; [`UNDECLARED`] if it does not say.
    pub declared_len: usize,
}

/// The length of a packet that does not say how long it is: a jumbogram, or one that Linux has put together.
pub const UNDECLARED: usize = usize::MAX;

/// What becomes of a frame while the guard enforces. `A` is the kind of its source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<A> {
    /// Not the guard's business: passes, uncounted.
    Pass,
    /// For the guarded port, from a source on the allowlist: passes.
    Allow {
        /// See [`Denied::declared_len`].
        declared_len: usize,
    },
    /// For the guarded port, from a source that no entry covers: dropped.
    Deny(Denied<A>),
    /// Dropped whatever its source.
    Reject(Fault),
}

/// Who knows the allowlist for addresses of one kind, and what to do about a verdict.
///
/// The verdict is handed over rather than returned because the kernel program must not carry "an address of either
/// kind" around: what one arm of such an enum leaves undefined, the verifier finds unreadable.
pub trait Datapath<A: Address> {
    /// What comes of a verdict.
    type Outcome;

    /// Whether an entry of the allowlist covers `source`.
    fn covers(&self, source: A) -> bool;

    /// Acts on a verdict. `link_header_len` is the number of bytes in front of the IP packet.
    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> Self::Outcome;
}

/// Judges the frame at `frame`, a cursor at its first byte.
///
/// `step` is [`ipv6::step_over`] applied to the frame, or a call that comes to the same.
#[inline(always)]
pub fn judge<Outcome, C>(
    frame: impl Cursor,
    link_type: LinkType,
    datapath: &C,
    step: &impl ChainStep,
) -> Outcome
where
    C: Datapath<V4, Outcome = Outcome> + Datapath<V6, Outcome = Outcome>,
{
    match frame::parse(frame, link_type) {
        Link::Ipv4(packet) => finish(datapath, ipv4::parse(packet, step), packet),
        Link::Ipv6(packet) => finish(datapath, ipv6::parse(packet, step), packet),
        Link::Other => datapath.finish(Verdict::<V4>::Pass, 0),
        Link::TooManyTags(behind) => {
            datapath.finish(Verdict::<V4>::Reject(Fault::TooManyHeaders), behind.offset())
        }
    }
}

#[inline(always)]
fn finish<A: Address, K: Cursor, C: Datapath<A>>(
    datapath: &C,
    parsed: Result<Option<Candidate<A, K>>, Fault>,
    packet: K,
) -> C::Outcome {
    // One call each: of a verdict that is put together first, the compiler carries along what the arms leave undefined.
    let finish = |verdict| datapath.finish(verdict, packet.offset());
    match parsed {
        Ok(None) => finish(Verdict::Pass),
        Ok(Some(Candidate { source, declared_len, .. })) if datapath.covers(source) => {
            finish(Verdict::Allow { declared_len })
        }
        Ok(Some(Candidate { source, source_port_be, protocol, header, declared_len })) => {
            let request = Request::of(header, protocol);
            finish(Verdict::Deny(Denied { source, source_port_be, request, declared_len }))
        }
        Err(fault) => finish(Verdict::Reject(fault)),
    }
}
