mod line;
mod store;

use std::net::Ipv4Addr;

use portguard_common::reason::{Denial, Fault};
use portguard_common::rpc::{Procedure, REQUESTS, Request, Requests};
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;

use crate::guard::{Asked, SetId, Snapshot, Source};
use crate::history::{Identity, Line, Reason, boot_id};

/// 2026-11-26T12:00:00Z.
pub(super) const NOON: u64 = 1_795_694_400_000_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const DAY: u64 = 86_400 * SECOND;

/// The last line of a set that has counted `packets`, written at noon.
pub(super) fn line(set: u64, packets: u64) -> Line {
    line_at(set, packets, NOON)
}

/// The same, written at another time.
pub(super) fn line_at(set: u64, packets: u64, written_at: u64) -> Line {
    let mut snapshot = snapshot(vec![source(9, packets)], Count::default());
    snapshot.since += set * SECOND;
    snapshot.set = SetId(set);
    let identity = Identity {
        interface: Some("eth0"),
        ifindex: 2,
        namespace: 4_026_531_840,
        set: SetId(set),
        enforcing: true,
    };
    Line::new(&snapshot, identity, Reason::Detach, written_at, None, 256)
}

pub(super) fn text(line: &Line) -> String {
    line.to_text().unwrap()
}

/// 203.0.113.9 and the like: `packets` DUMPs of 68 bytes over UDP.
fn source(host: u32, packets: u64) -> Source {
    let dump = Request::all()
        .find(|request| request.protocol() == Protocol::Udp && request.procedure() == Procedure::Dump)
        .unwrap();
    let mut requests = [0; REQUESTS];
    requests[dump.index()] = packets;
    Source {
        address: Ipv4Addr::from_bits(0xcb00_7100 + host).into(),
        count: Count { packets, bytes: 68 * packets },
        asked: Asked::from(&requests),
        first_seen: NOON - 3_000 * SECOND,
        last_seen: NOON - SECOND,
    }
}

/// Counters that hold these sources, and began an hour before noon.
fn snapshot(sources: Vec<Source>, unattributed: Count) -> Snapshot {
    let mut denied = unattributed;
    let mut requests = [0; REQUESTS];
    for source in &sources {
        denied.add(source.count);
        for (sum, count) in std::iter::zip(&mut requests, Requests::from(&source.asked)) {
            *sum += count;
        }
    }
    Snapshot {
        set: SetId(0),
        taken_at: NOON,
        since: NOON - 3_600 * SECOND,
        allowed: Count { packets: 12, bytes: 1_032 },
        denied: Denial::ALL
            .map(|reason| if reason == Denial::NotAllowed { denied } else { Count::default() }),
        faults: Fault::ALL.map(|fault| match fault {
            Fault::Truncated => Count { packets: 1, bytes: 20 },
            _ => Count::default(),
        }),
        would_drop: Count::default(),
        sources,
        unattributed,
        requests,
        not_logged: 0,
    }
}

#[test]
fn a_boot_has_one_id() {
    let id = boot_id().expect("/proc/sys is readable here");
    assert!(id.len() == 36 && id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(boot_id(), Some(id));
}
