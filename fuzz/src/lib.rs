//! What the fuzz targets assert. The test `portguard/tests/seeds.rs` compiles this file, too, and runs the committed seeds
//! and the crashes of the past through it.

use std::path::Path;
use std::time::{Duration, Instant};

use portguard::allowlist::{Allowlist, Entry, NewEntry, Style};
use portguard::guard::calls;
use portguard_common::address::Address;
use portguard_common::cursor::Linear;
use portguard_common::frame::LinkType;
use portguard_common::ipv6::{CommonFrames, DirectStep};
use portguard_common::rpc::Request;
use portguard_common::transport::Protocol;
use portguard_common::verdict::{Datapath, Denial, Fault, HeaderAt, Verdict, judge};
use portguard_testkit::oracle::{self, Finding, is_listed, rpc as rpc_oracle};

/// How long it may take to read a list of the size that a fuzzer tries, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(10);

/// A datapath that only records what the parser has found.
struct Recorder;

impl<A: Address> Datapath<A> for Recorder {
    /// What was found, whether its source is on the list, and where the IP packet begins; `None`: not a common frame.
    type Outcome = Option<(Finding, bool, usize)>;

    type Covered = ();

    fn look_up(&self, source: A) -> Option<()> {
        is_listed(source.ip()).then_some(())
    }

    fn refusal(&self, (): (), _protocol: Protocol, _header_at: HeaderAt) -> Option<Denial> {
        None
    }

    fn finish(&self, verdict: Verdict<A>, link_header_len: usize) -> Self::Outcome {
        let finding = match verdict {
            Verdict::Pass | Verdict::Allow { .. } => Finding::Other,
            Verdict::Deny(denied) => Finding::Candidate {
                source: denied.source.ip(),
                is_tcp: denied.request.protocol() == Protocol::Tcp,
            },
            Verdict::Reject(Fault::Truncated) => Finding::Truncated,
            Verdict::Reject(Fault::Malformed) => Finding::Malformed,
            Verdict::Reject(Fault::TooManyHeaders) => Finding::TooManyHeaders,
            Verdict::Uncommon => return None,
        };
        Some((finding, matches!(verdict, Verdict::Allow { .. }), link_header_len))
    }
}

/// The parser has a verdict for any frame, and it is the oracle's; also for a link without Ethernet.
pub fn frame(frame: &[u8]) {
    let cursor = Linear::new(frame);
    let any = judge(cursor, LinkType::Ethernet, &Recorder, &DirectStep(cursor));
    let (found, is_allowed, link_header_len) = any.expect("every frame has a verdict");
    if let Some(common) = judge(cursor, LinkType::Ethernet, &Recorder, &CommonFrames)
        && (found != Finding::Other || is_allowed)
    {
        assert_eq!(
            common,
            (found, is_allowed, link_header_len),
            "the fast path has the verdict of any frame"
        );
    }
    let (expected, packet_len) = oracle::judge(frame);
    match expected {
        Finding::Candidate { source, .. } if is_listed(source) => {
            assert!(is_allowed, "{source} is on the list");
        }
        _ => assert_eq!((found, is_allowed), (expected, false)),
    }
    if found != Finding::Other || is_allowed {
        assert_eq!(frame.len() - link_header_len, packet_len, "what is counted begins at the IP header");
    }
    let any = judge(cursor, LinkType::RawIp, &Recorder, &DirectStep(cursor));
    let common = judge(cursor, LinkType::RawIp, &Recorder, &CommonFrames);
    assert!(any.is_some() && (common.is_none() || common.map(|it| it.0) == any.map(|it| it.0)));
}

/// What a datagram or segment asks rpcbind for is what the oracle says. The first byte is even for UDP; the header of
/// UDP or TCP follows.
pub fn rpc(bytes: &[u8]) {
    let Some((first, transport)) = bytes.split_first() else { return };
    let protocol = if first % 2 == 0 { Protocol::Udp } else { Protocol::Tcp };
    let request = Request::of(Linear::new(transport), protocol);
    assert_eq!(request.protocol(), protocol);
    let found = calls::name(request.procedure());
    assert_eq!(found, rpc_oracle::procedure(transport, protocol == Protocol::Tcp));
}

/// Any bytes are read in bounded time, as a list or as errors that can be shown; and a list means the same when it is
/// written down again.
pub fn allowlist(bytes: &[u8]) {
    let start = Instant::now();
    let read = Allowlist::parse(Path::new("allowlist.yaml"), bytes);
    let took = start.elapsed();
    assert!(took < PATIENCE, "{took:?} for {} bytes", bytes.len());
    match read {
        Err(invalid) => {
            assert!(invalid.errors.total() > 0, "refused without an error");
            assert!(!invalid.render(Style::Plain).is_empty());
        }
        Ok(checked) => {
            let mut again = String::from("allow:\n");
            for entry in checked.allowlist.entries() {
                let conditions = entry.conditions().cloned().unwrap_or_default();
                again += &NewEntry { prefix: entry.prefix(), comment: None, conditions }.block("  ", "\n");
            }
            if checked.allowlist.entries().is_empty() {
                again = "allow: []\n".to_owned();
            }
            let reread = Allowlist::parse(Path::new("again.yaml"), again.as_bytes());
            let reread = reread.unwrap_or_else(|invalid| panic!("{}", invalid.render(Style::Plain)));
            let content = |list: &Allowlist| {
                let content = |entry: &Entry| (entry.prefix(), entry.conditions().cloned());
                list.entries().iter().map(content).collect::<Vec<_>>()
            };
            assert_eq!(content(&reread.allowlist), content(&checked.allowlist), "{again}");
        }
    }
}
