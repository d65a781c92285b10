//! What becomes of a frame.

use crate::cursor::Cursor;
use crate::frame::{self, LinkType};
use crate::ipv6::ChainStep;
use crate::transport::{Protocol, Source};

/// The sources that may reach the guarded port.
pub trait Allowlist {
    /// Whether an entry covers `source`.
    fn covers(&self, source: Source<'_>) -> bool;
}

/// Why an IP packet that nobody could have sent in earnest is dropped without asking the allowlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The frame ends within a header that decides about the port.
    Truncated,
    /// A header contradicts itself.
    Malformed,
    /// More VLAN tags or extension headers than [`frame::MAX_VLAN_TAGS`] and [`crate::ipv6::MAX_EXTENSION_HEADERS`].
    TooManyHeaders,
}

/// A TCP segment or UDP datagram for the guarded port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock<'a> {
    /// Who sent it, if the sender is honest.
    pub source: Source<'a>,
    /// Over which protocol.
    pub protocol: Protocol,
}

/// What becomes of a frame while the guard enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Not the guard's business: passes, uncounted.
    Pass,
    /// For the guarded port, from a source on the allowlist: passes.
    Allow,
    /// For the guarded port, from a source that no entry covers: dropped.
    Deny(Knock<'a>),
    /// Dropped whatever its source.
    Reject(Fault),
}

/// A verdict, and where in the frame the IP packet that it is about begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// What becomes of the frame.
    pub verdict: Verdict<'a>,
    /// Length in bytes of the link header, VLAN tags included.
    pub link_header_len: usize,
}

/// Judges the frame at `frame`, a cursor at its first byte.
///
/// `step` is [`crate::ipv6::step_over`] applied to the frame, or a call that comes to the same.
#[inline(always)]
pub fn judge<'a>(
    frame: Cursor<'a>,
    link_type: LinkType,
    allowlist: &impl Allowlist,
    step: impl ChainStep,
) -> Judgement<'a> {
    let link = frame::parse(frame, link_type);
    let verdict = match link.knock(step) {
        Ok(None) => Verdict::Pass,
        Ok(Some(knock)) if allowlist.covers(knock.source) => Verdict::Allow,
        Ok(Some(knock)) => Verdict::Deny(knock),
        Err(fault) => Verdict::Reject(fault),
    };
    Judgement { verdict, link_header_len: link.header_len() }
}
