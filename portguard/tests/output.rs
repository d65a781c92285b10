//! What the renderers make of values: text, JSON and CSV of the same counters.

#[path = "output/doctor.rs"]
mod doctor;
#[path = "output/listed.rs"]
mod listed;
#[path = "output/lists.rs"]
mod lists;
#[path = "output/probe.rs"]
mod probe;
#[path = "output/suggest.rs"]
mod suggest;

use std::time::Duration;

use insta::assert_snapshot;
use portguard::allowlist::{Origin, Sha256Sum};
use portguard::cli::stats::SortKey;
use portguard::cli::{explain, report, stats, status};
use portguard::control::OrderDescription;
use portguard::family::Family;
use portguard::guard::{Decision, Fill, Hook, ListInfo, SetId, Snapshot, Source, Sums, Waits};
use portguard::interface::XdpMode;
use portguard::ops::services;
use portguard::rpcbind::amplification::{Answers, Size};
use portguard::rpcbind::{NoReply, Question};
use portguard::service::metrics::page as metrics;
use portguard_common::calls::UdpCalls;
use portguard_common::reason::{ByFault, Denial, Fault};
use portguard_common::rpc::{Procedure, REQUESTS, Request, Requests};
use portguard_common::totals::{Count, Totals};
use portguard_common::transport::Protocol;

const SECOND: u64 = 1_000_000_000;
/// 2026-11-23T05:12:31.123456Z.
const NOW: u64 = 1_795_410_751_123_456_789;

fn count(packets: u64, bytes: u64) -> Count {
    Count { packets, bytes }
}

/// A few calls for addresses, and otherwise calls for the list, and segments without data.
fn requests(packets: u64, tcp_packets: u64) -> Requests {
    let udp = packets - tcp_packets;
    let mut requests = [0; REQUESTS];
    requests[Procedure::GetAddress as usize] = udp / 4;
    requests[Procedure::Dump as usize] = udp - udp / 4;
    requests[Request::new(Protocol::Tcp, Procedure::NotRpc).index()] = tcp_packets;
    requests
}

fn source(address: &str, packets: u64, tcp_packets: u64, age: u64) -> Source {
    Source {
        address: address.parse().unwrap(),
        count: count(packets, 68 * packets),
        asked: (&requests(packets, tcp_packets)).into(),
        first_seen: NOW - 2 * age * SECOND,
        last_seen: NOW - age * SECOND,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        taken_at: NOW,
        since: NOW - 3600 * SECOND,
        set: SetId(1),
        allowed: count(12, 1032),
        denied: Denial::ALL.map(|reason| match reason {
            Denial::NotAllowed => count(1_000_117, 68_007_956),
            Denial::CallNotAllowed => count(13, 884),
            _ => count(0, 0),
        }),
        faults: Fault::ALL.map(|fault| match fault {
            Fault::Truncated => count(3, 90),
            Fault::TooManyHeaders => count(1, 400),
            _ => count(0, 0),
        }),
        would_drop: count(0, 0),
        sources: vec![
            source("203.0.113.9", 60, 0, 1),
            source("2001:db8:3::9", 40, 40, 100),
            source("198.51.100.20", 30, 7, 10),
        ],
        unattributed: count(1_000_000, 68_000_000),
        requests: requests(1_000_130, 47),
        not_logged: 4711,
    }
}

fn quiet() -> Snapshot {
    let none = count(0, 0);
    Snapshot {
        denied: [none; Denial::ALL.len()],
        faults: ByFault::default(),
        unattributed: none,
        requests: [0; REQUESTS],
        not_logged: 0,
        sources: vec![],
        ..snapshot()
    }
}

/// Where the guards of the tests are.
const NATIVE: Hook = Hook::Xdp(XdpMode::Native);
const GENERIC: Hook = Hook::Xdp(XdpMode::Generic);

fn document(snapshot: Snapshot, sort: SortKey, top: Option<usize>) -> stats::document::Document {
    stats::document::Document::new(
        NOW,
        vec![stats::document::Interface::new("eth0".into(), NATIVE, true, snapshot, sort, top)],
    )
}

#[test]
fn counters_as_text() {
    assert_snapshot!(stats::text::text(&document(snapshot(), SortKey::Packets, None)));
}

#[test]
fn counters_as_text_cut_off() {
    assert_snapshot!(stats::text::text(&document(snapshot(), SortKey::Recent, Some(1))));
}

#[test]
fn counters_in_audit_mode_and_nothing_to_tell() {
    let audit = Snapshot { would_drop: snapshot().refused(), ..snapshot() };
    let interfaces = [("eth0", false, audit), ("wlan0", true, quiet())].map(|(name, enforcing, snapshot)| {
        stats::document::Interface::new(name.into(), GENERIC, enforcing, snapshot, SortKey::Bytes, Some(0))
    });
    assert_snapshot!(stats::text::text(&stats::document::Document::new(NOW, interfaces.to_vec())));
}

#[test]
fn counters_as_json() {
    let document = document(snapshot(), SortKey::Packets, Some(2));
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn counters_as_csv() {
    // An interface may have a comma in its name.
    let mut document = document(snapshot(), SortKey::Bytes, None);
    document.interfaces[0].interface = "a,\"b\"".into();
    assert_snapshot!(stats::document::csv(&document).unwrap());
}

fn guard(enforcing: bool, origin: Origin, file: status::document::File) -> status::document::Guard {
    status::document::Guard {
        interface: "eth0".into(),
        ifindex: 2,
        hook: NATIVE,
        enforcing,
        generation: 6,
        pinned: "/sys/fs/bpf/portguard/4026531840/2/link".into(),
        attached_at: "2026-11-23T04:00:00Z".into(),
        allowlist: status::document::Allowlist {
            path: "/etc/portguard/allowlist.yaml".into(),
            sha256: "5e".repeat(32),
            prefixes_v4: 14,
            prefixes_v6: 1,
            udp: "lookups",
            conditional: 0,
            deadlines_off_by: 0,
            loaded_at: "2026-11-23T05:00:00Z".into(),
            changed_on_disk: file != status::document::File::Unchanged,
            origin,
            file,
        },
        confirmation: None,
        program: status::document::Program {
            id: 42,
            name: "portguard_frags".into(),
            tag: "0123456789abcdef".into(),
            abi_version: 1,
        },
        order: OrderDescription {
            allowlist: "/etc/portguard/allowlist.yaml".into(),
            hook: Some("xdp".into()),
            mode: Some("native".into()),
            audit: !enforcing,
            sources: Some(16_384),
            log_rate: None,
        },
        service: None,
    }
}

/// A service that keeps a guard.
fn service(unit: Option<&str>, differences: &[&str]) -> services::ServiceState {
    services::ServiceState {
        pid: 123,
        unit: unit.map(str::to_owned),
        as_ordered: differences.is_empty(),
        differences: differences.iter().map(|&part| part.to_owned()).collect(),
    }
}

/// Interfaces without a guard, of each kind.
fn unguarded() -> Vec<services::Unguarded> {
    use services::UnguardedState::{Open, Waiting};
    let owner = services::Owner { pid: 123, unit: Some("portguard@wg0.service".into()) };
    let unguarded = |interface: &str, state, service, why: Option<&str>| services::Unguarded {
        interface: interface.into(),
        state,
        service,
        why: why.map(str::to_owned),
    };
    vec![
        unguarded("wg0", Waiting, Some(owner.clone()), None),
        unguarded(
            "br0",
            Open,
            Some(services::Owner { unit: None, ..owner }),
            Some("br0: native XDP refused"),
        ),
        unguarded("eth3", Open, None, Some("it had a guard, but the link of the guard is gone")),
    ]
}

#[test]
fn guards_as_text() {
    let guards = vec![
        status::document::Guard {
            service: Some(service(Some("portguard@eth0.service"), &[])),
            ..guard(true, Origin::File, status::document::File::Unchanged)
        },
        status::document::Guard {
            service: Some(service(None, &["audit -> enforcing", "mode generic -> native"])),
            ..guard(false, Origin::File, status::document::File::Changed)
        },
        guard(
            true,
            Origin::LastGood,
            status::document::File::Broken { problem: "line 3: 10.1.2.3/16 has host bits set".into() },
        ),
    ];
    let document =
        status::document::Document { unguarded: unguarded(), ..status::document::Document::new(guards) };
    assert_snapshot!(status::text::text(&document));
}

#[test]
fn guards_with_a_change_that_is_not_confirmed_as_text() {
    let guards = [Waits::Pending, Waits::Overdue, Waits::Rejected].map(|state| {
        let deadline = "2026-11-23T05:13:31Z".into();
        let confirmation = Some(status::document::Confirmation { state, deadline });
        status::document::Guard { confirmation, ..guard(true, Origin::File, status::document::File::Changed) }
    });
    assert_snapshot!(status::text::text(&status::document::Document::new(guards.to_vec())));
}

#[test]
fn guards_as_json() {
    let mut guard = guard(true, Origin::LastGood, status::document::File::Broken { problem: "…".into() });
    guard.service = Some(service(Some("portguard@eth0.service"), &["audit -> enforcing"]));
    let document =
        status::document::Document { unguarded: unguarded(), ..status::document::Document::new(vec![guard]) };
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

/// A verdict of a guard on a list that is on disk as it was.
fn verdict(source: &str, outcome: Decision) -> explain::document::Verdict {
    let entry = |prefix: &str, line, comment: Option<&str>| explain::document::Entry {
        prefix: prefix.parse().unwrap(),
        line: Some(line),
        comment: comment.map(str::to_owned),
        conditions: None,
    };
    let allowed = outcome == Decision::Allowed;
    explain::document::Verdict {
        source: source.parse().unwrap(),
        interface: Some("eth0".into()),
        verdict: outcome,
        reason: (!allowed).then_some(Denial::NotAllowed),
        judged_by: explain::document::Judge::Kernel,
        protocols: Protocol::ALL.to_vec(),
        call: Some(Procedure::Null),
        at: None,
        allowlist: explain::document::Allowlist {
            path: "/etc/portguard/allowlist.yaml".into(),
            sha256: "5e".repeat(32),
            generation: Some(6),
            udp: UdpCalls::All,
            changed_on_disk: false,
            lines_of: Some(Origin::File),
        },
        entry: allowed.then(|| entry("192.0.2.0/24", 9, Some("NFS clients, rack 4"))),
        nearest: (!allowed).then(|| entry("203.0.113.0/29", 7, None)),
        same_program: Some(true),
        note: None,
        enforcing: Some(outcome != Decision::WouldDrop),
        service: None,
    }
}

/// Verdicts of every kind.
fn verdicts() -> explain::document::Document {
    use Decision::{Allowed, Dropped, WouldDrop};

    let mut copy = verdict("192.0.2.7", Allowed);
    copy.allowlist.changed_on_disk = true;
    copy.allowlist.lines_of = Some(Origin::LastGood);
    let mut gone = verdict("203.0.113.9", Dropped);
    gone.allowlist.changed_on_disk = true;
    gone.allowlist.lines_of = None;
    gone.nearest.as_mut().unwrap().line = None;
    let mut by_file = verdict("203.0.113.9", Dropped);
    by_file.interface = None;
    by_file.judged_by = explain::document::Judge::File;
    by_file.allowlist.generation = None;
    by_file.same_program = None;
    by_file.enforcing = None;
    let kept = |differences: &[&str]| Some(service(Some("portguard@eth0.service"), differences));
    let as_ordered = explain::document::Verdict { service: kept(&[]), ..verdict("203.0.113.9", Dropped) };
    let not_as_ordered = explain::document::Verdict {
        service: kept(&["audit -> enforcing"]),
        ..verdict("203.0.113.9", WouldDrop)
    };
    let [none_v4, none_v6] = ["198.51.100.20", "2001:db8::7"]
        .map(|source| explain::document::Verdict { nearest: None, ..verdict(source, Dropped) });
    let verdicts = vec![
        verdict("192.0.2.7", Allowed),
        verdict("203.0.113.9", Dropped),
        verdict("203.0.113.9", WouldDrop),
        copy,
        gone,
        by_file,
        none_v4,
        explain::document::Verdict { same_program: Some(false), ..none_v6 },
        explain::document::Verdict {
            protocols: vec![Protocol::Tcp],
            call: None,
            note: Some("a loopback address"),
            ..verdict("127.0.0.1", Allowed)
        },
        as_ordered,
        not_as_ordered,
        with_lookups("192.0.2.7", Allowed, &Protocol::ALL),
        with_lookups("192.0.2.7", Dropped, &[Protocol::Udp]),
        with_lookups("192.0.2.7", WouldDrop, &[Protocol::Udp]),
    ];
    explain::document::Document { unguarded: unguarded(), ..explain::document::Document::new(verdicts) }
}

/// The verdict on a source that a list covers which permits lookups only.
fn with_lookups(source: &str, outcome: Decision, protocols: &[Protocol]) -> explain::document::Verdict {
    let mut verdict = explain::document::Verdict {
        verdict: outcome,
        protocols: protocols.to_vec(),
        ..verdict(source, Decision::Allowed)
    };
    verdict.allowlist.udp = UdpCalls::Lookups;
    if outcome != Decision::Allowed {
        verdict.reason = Some(Denial::CallNotAllowed);
        verdict.call = Some(Procedure::Dump);
    }
    verdict
}

#[test]
fn verdicts_as_text() {
    assert_snapshot!(explain::text::text(&verdicts()));
}

#[test]
fn verdicts_as_json() {
    let mut document = verdicts();
    document.verdicts.retain(|verdict| verdict.service.is_some() || verdict.entry.is_some());
    document.verdicts.drain(1..4);
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

/// What a fresh rpcbind answers, or nearly so.
fn answers() -> Answers {
    let size = |(question, (request, reply))| Size { question, request, reply };
    let sizes = [
        (40, 24),
        (40, 24),
        (40, 24),
        (56, 28),
        (64, 44),
        (64, 44),
        (40, 148),
        (40, 684),
        (40, 684),
        (40, 228),
    ];
    let sizes: Vec<Size> = Question::COUNTED.into_iter().zip(sizes).map(size).collect();
    let over_v6 = sizes.iter().map(|size| Size { reply: size.reply + 4, ..*size }).collect();
    Answers::new(Ok(sizes), Ok(over_v6))
}

fn evidence(
    enforcing: bool,
    snapshot: Snapshot,
    answers: &Answers,
    top: Option<usize>,
) -> report::document::Document {
    listed::evidence_about(&[], enforcing, snapshot, answers, top)
}

#[test]
fn evidence_as_text() {
    assert_snapshot!(report::text::text(&evidence(true, snapshot(), &answers(), Some(2))));
    assert_snapshot!(
        "evidence_of_nothing_as_text",
        report::text::text(&evidence(true, quiet(), &answers(), None))
    );
}

#[test]
fn evidence_of_what_was_let_through() {
    let audit = Snapshot { would_drop: snapshot().refused(), ..snapshot() };
    assert_snapshot!(report::text::text(&evidence(false, audit, &answers(), None)));
    let both = Snapshot { would_drop: count(30, 2040), ..snapshot() };
    assert_snapshot!(
        "evidence_of_what_was_let_through_for_a_time",
        report::text::text(&evidence(true, both, &answers(), Some(0)))
    );
}

#[test]
fn evidence_without_an_rpcbind() {
    let none = Answers::new(Err(NoReply::Refused), Err(NoReply::Silent));
    let document = evidence(true, snapshot(), &none, None);
    assert_snapshot!(report::text::text(&document));
    assert_snapshot!("evidence_without_an_rpcbind_as_csv", report::document::csv(&document).unwrap());
    assert_snapshot!(
        "evidence_without_an_rpcbind_as_json",
        serde_json::to_string_pretty(&report::document::Document { interfaces: vec![], ..document.clone() })
            .unwrap()
    );
    let interface = serde_json::to_value(&document.interfaces[0]).unwrap();
    assert!(interface["totals"]["answer_bytes"].is_null(), "{interface:#}");
    assert!(interface["sources"][0]["answer_bytes"].is_null(), "{interface:#}");

    let answers = answers();
    let over_v4 = answers.over(Family::V4).unwrap().to_vec();
    let one_family = Answers::new(Ok(over_v4), Err(NoReply::Refused));
    assert_snapshot!(
        "evidence_with_an_rpcbind_of_one_family",
        report::text::text(&evidence(true, snapshot(), &one_family, None))
    );
}

#[test]
fn evidence_as_json() {
    let document = evidence(true, snapshot(), &answers(), Some(1));
    assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn evidence_as_csv() {
    let mut document = evidence(true, snapshot(), &answers(), None);
    document.interfaces[0].interface = "a,\"b\"".into();
    assert_snapshot!(report::document::csv(&document).unwrap());
}

/// A guard in order, one whose pins are damaged, an interface without a guard, and one that is not there.
fn metrics() -> metrics::Metrics {
    let list = ListInfo {
        generation: 7,
        path: "/etc/portguard/with \"quotes\".yaml".into(),
        origin: Origin::LastGood,
        sha256: Sha256Sum::of(b"allow: []\n"),
        prefixes_v4: 3,
        prefixes_v6: 2,
        udp_calls: UdpCalls::Lookups,
        conditional: 2,
        loaded_at: NOW,
    };
    let Snapshot { allowed, faults, .. } = snapshot();
    let Snapshot { denied, unattributed, requests, not_logged, .. } = snapshot();
    let totals = Totals { allowed, would_drop: count(5, 340), requests, not_logged, ..Totals::default() };
    let totals = totals.with_faults(faults);
    let v4 = Fill { taken: 30_000, places: 32_768 };
    let v6 = Fill { taken: 1, places: 32_768 };
    let guard = metrics::Guard {
        hook: GENERIC,
        enforcing: false,
        as_ordered: true,
        list: Some((list, status::document::File::Broken { problem: "line 3: no prefix".into() })),
        deadline_drift: Duration::from_millis(1500),
        sums: Sums { totals, denied, unattributed, v4, v6 },
    };
    let states = [
        ("eth0", metrics::State::Guarded(Some(Box::new(guard)))),
        ("eth1", metrics::State::Guarded(None)),
        ("eth2", metrics::State::Open),
        ("wg0", metrics::State::Away),
    ];
    let interfaces = states.map(|(name, state)| metrics::Interface { name: name.into(), state });
    let reloads = metrics::Reloads { ok: 6, failed: 1, last_ok: false };
    metrics::Metrics { version: "1.2.3", reloads, interfaces: interfaces.to_vec() }
}

#[test]
fn metrics_for_who_asks_for_open_metrics_and_for_who_does_not() {
    let page = metrics().into_open_metrics();
    assert_snapshot!("metrics_as_open_metrics", page);
    assert_snapshot!("metrics_as_plain_text", metrics::plain(&page));
}
