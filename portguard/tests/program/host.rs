//! The host build of the parser and the verdict.

use std::path::Path;

use jiff::Timestamp;
use portguard::allowlist::{Allowlist, Entry};
use portguard_common::address::Address;
use portguard_common::calls::{self, UdpCalls};
use portguard_common::cursor::{Cursor as _, Linear};
use portguard_common::frame::LinkType;
use portguard_common::ipv6::{CommonFrames, DirectStep};
use portguard_common::transport;
use portguard_common::verdict::{
    Datapath, Denial, Denied, HeaderAt, UNDECLARED, Verdict, ends_within, judge,
};

use crate::frames::{Expect, Link, Protocol};
use crate::kernel::GUARDED;

/// A naive allowlist, and a verdict in the words of the table.
pub(crate) struct Host {
    entries: Vec<Entry>,
    pub(crate) udp_calls: UdpCalls,
}

/// What a frame is, where its packet begins, and the length that this declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    expect: Expect,
    link_header_len: usize,
    declared_len: usize,
}

/// The allowlist, and a frame.
struct Judged<'f> {
    host: &'f Host,
    frame: Linear<'f>,
}

impl<'f, A: Address> Datapath<A> for Judged<'f> {
    type Outcome = Option<Found>;

    type Covered = &'f Entry;

    fn look_up(&self, source: A) -> Option<&'f Entry> {
        let covering = self.host.entries.iter().filter(|entry| entry.prefix().contains(&source.ip()));
        covering.max_by_key(|entry| entry.prefix().prefix_len())
    }

    fn refusal(&self, entry: &Entry, protocol: transport::Protocol, header_at: HeaderAt) -> Option<Denial> {
        let conditions = entry.conditions().cloned().unwrap_or_default();
        if conditions.interfaces.is_some_and(|patterns| patterns.iter().all(|it| !it.matches(GUARDED))) {
            return Some(Denial::WrongInterface);
        }
        if conditions.until.is_some_and(|until| until <= Timestamp::now()) {
            return Some(Denial::Expired);
        }
        if protocol == transport::Protocol::Tcp {
            return None;
        }
        let is_permitted = match conditions.udp.unwrap_or(self.host.udp_calls) {
            UdpCalls::All => true,
            UdpCalls::Lookups => {
                !header_at.is_in_fragment() && self.frame.at(header_at.offset()).is_some_and(calls::is_lookup)
            }
            UdpCalls::None => false,
        };
        (!is_permitted).then_some(Denial::CallNotAllowed)
    }

    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> Option<Found> {
        let declared_len = match verdict {
            Verdict::Allow { declared_len, .. } => declared_len,
            Verdict::Deny(denied) => denied.declared_len,
            _ => UNDECLARED,
        };
        let expect = match verdict {
            Verdict::Pass => Expect::Pass,
            Verdict::Allow { .. } => Expect::Allowed,
            Verdict::Deny(Denied { source, reason, .. }) if reason != Denial::NotAllowed => {
                Expect::Refused(source.ip(), reason)
            }
            Verdict::Deny(denied) => Expect::Denied(
                denied.source.ip(),
                match denied.request.protocol() {
                    transport::Protocol::Udp => Protocol::Udp,
                    transport::Protocol::Tcp => Protocol::Tcp,
                },
            ),
            Verdict::Reject(fault) => Expect::Fault(fault),
            Verdict::Uncommon => return None,
        };
        Some(Found { expect, link_header_len, declared_len })
    }
}

impl Host {
    /// With that list in force.
    pub(crate) fn new(allowlist: &str) -> Self {
        let checked = Allowlist::parse(Path::new("allowlist.yaml"), allowlist.as_bytes()).unwrap();
        let list = checked.allowlist;
        Self { entries: list.entries().to_vec(), udp_calls: list.udp_calls() }
    }

    /// What the host build makes of a frame, and the bytes that it would count.
    pub(crate) fn verdict(&self, link: Link, frame: &[u8]) -> (Expect, u64) {
        let Found { expect, link_header_len, .. } = self.found(link, frame);
        (expect, (frame.len() - link_header_len) as u64)
    }

    /// The same, of a kernel that hands over so many bytes in the first buffer of a frame: the others do not count if the packet
    /// declares that it ends in that one.
    pub(crate) fn verdict_of_buffers(&self, link: Link, frame: &[u8], first_len: usize) -> (Expect, u64) {
        let Found { expect, link_header_len, declared_len } = self.found(link, frame);
        let all = (frame.len() - link_header_len) as u64;
        let first = first_len.saturating_sub(link_header_len) as u64;
        // Where the headers end later, all buffers are looked at.
        let is_enough = || self.found(link, &frame[..first_len]).expect == expect;
        let ends = first < all && ends_within(declared_len, first) && is_enough();
        (expect, if ends { first } else { all })
    }

    fn found(&self, link: Link, frame: &[u8]) -> Found {
        let link_type = match link {
            Link::Ethernet => LinkType::Ethernet,
            Link::RawIp => LinkType::RawIp,
        };
        let cursor = Linear::new(frame);
        let judged = &Judged { host: self, frame: cursor };
        let any = judge(cursor, link_type, judged, &DirectStep(cursor));
        let found = any.expect("every frame has a verdict");
        if let Some(common) = judge(cursor, link_type, judged, &CommonFrames) {
            // Frames that pass are not counted.
            let same = common == found || (common.expect, found.expect) == (Expect::Pass, Expect::Pass);
            assert!(same, "a common frame has the verdict of any frame: {common:?}, {found:?}");
        }
        found
    }
}
