//! The host build of the parser and the verdict.

use std::path::Path;

use ipnet::IpNet;
use portguard::allowlist::{Allowlist, Entry};
use portguard_common::address::Address;
use portguard_common::cursor::Linear;
use portguard_common::frame::LinkType;
use portguard_common::ipv6::{CommonFrames, DirectStep};
use portguard_common::transport;
use portguard_common::verdict::{Datapath, Verdict, judge};

use crate::frames::{Expect, Link, Protocol};

/// A naive allowlist, and a verdict in the words of the table.
pub(crate) struct Host {
    prefixes: Vec<IpNet>,
}

impl<A: Address> Datapath<A> for Host {
    /// `None`: not a common frame.
    type Outcome = Option<(Expect, usize)>;

    fn covers(&self, source: A) -> bool {
        let source = source.ip();
        self.prefixes.iter().any(|prefix| prefix.contains(&source))
    }

    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> Option<(Expect, usize)> {
        let expect = match verdict {
            Verdict::Pass => Expect::Pass,
            Verdict::Allow { .. } => Expect::Allowed,
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
        Some((expect, link_header_len))
    }
}

impl Host {
    /// With that list in force.
    pub(crate) fn new(allowlist: &str) -> Self {
        let checked = Allowlist::parse(Path::new("allowlist.yaml"), allowlist.as_bytes()).unwrap();
        Self { prefixes: checked.allowlist.entries().iter().map(Entry::prefix).collect() }
    }

    /// What the host build makes of a frame, and the bytes that it would count.
    pub(crate) fn verdict(&self, link: Link, frame: &[u8]) -> (Expect, u64) {
        let link_type = match link {
            Link::Ethernet => LinkType::Ethernet,
            Link::RawIp => LinkType::RawIp,
        };
        let cursor = Linear::new(frame);
        let any = judge(cursor, link_type, self, &DirectStep(cursor));
        let (expect, link_header_len) = any.expect("every frame has a verdict");
        if let Some(common) = judge(cursor, link_type, self, &CommonFrames) {
            assert_eq!(common.0, expect, "a common frame has the verdict of any frame");
            // Frames that pass are not counted.
            assert!(common.1 == link_header_len || expect == Expect::Pass);
        }
        (expect, (frame.len() - link_header_len) as u64)
    }
}
