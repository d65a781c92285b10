//! A list that users see is whole wherever it is shown. These tests know no variant by its name: `cargo xtask verify
//! variants` runs them on sources that have one more.

use std::array;
use std::time::Duration;

use portguard::cli::stats::SortKey;
use portguard::cli::{report, stats};
use portguard::guard::{Fill, Snapshot, Sums};
use portguard::history::{HEAVIEST, Identity, Line, Reason};
use portguard::service::metrics::page as metrics;
use portguard_common::reason::{Denial, DropReason};
use portguard_common::rpc::{Procedure, REQUESTS, Request, Requests};
use portguard_common::totals::{Count, Totals};
use portguard_common::transport::Protocol;
use serde_json::Value;

use super::{NOW, answers, count, document, evidence, quiet, source};

/// Counters of which each has a number of its own.
fn numbered() -> Snapshot {
    let mut requests: Requests = [0; REQUESTS];
    for request in Request::all() {
        requests[request.index()] = 1001 + request.index() as u64;
    }
    let mut source = source("203.0.113.9", 1, 0, 1);
    source.asked = (&requests).into();
    let mut denied = Denial::ALL.map(|reason| count(777 + reason as u64, 30_777 + reason as u64));
    source.count = count(requests.iter().sum(), 999_999);
    denied[0] = source.count;
    for of_listed in denied.into_iter().skip(1) {
        denied[0].packets -= of_listed.packets;
        denied[0].bytes -= of_listed.bytes;
    }
    Snapshot {
        denied,
        faults: array::from_fn(|index| count(101 + index as u64, 20_001 + index as u64)),
        sources: vec![source],
        requests,
        ..quiet()
    }
}

/// The page with the metrics of a guard that has counted this.
fn page(Snapshot { faults, requests, denied, unattributed, .. }: Snapshot) -> String {
    let totals = Totals { requests, ..Totals::default() }.with_faults(faults);
    let none = Fill::default();
    let guard = metrics::Guard {
        hook: super::NATIVE,
        enforcing: true,
        as_ordered: true,
        list: None,
        deadline_drift: Duration::ZERO,
        sums: Sums { totals, denied, unattributed, v4: none, v6: none },
    };
    let state = metrics::State::Guarded(Some(Box::new(guard)));
    let interfaces = vec![metrics::Interface { name: "eth0".into(), state }];
    let reloads = metrics::Reloads { ok: 0, failed: 0, last_ok: true };
    metrics::Metrics { version: "1", reloads, interfaces }.into_open_metrics()
}

/// The line of the history, which is read back as it was written.
fn history(snapshot: &Snapshot) -> Value {
    let (interface, set) = (Some("eth0"), snapshot.set);
    let identity = Identity { interface, ifindex: 2, namespace: 1, set, enforcing: true };
    let line = Line::new(snapshot, identity, Reason::Reset, NOW, None, HEAVIEST);
    let text = line.to_text().unwrap();
    assert_eq!(Line::parse(text.as_bytes()), Some(line), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn key(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        Protocol::Tcp => "tcp_best_effort",
    }
}

#[test]
fn each_drop_reason_is_wherever_they_are_shown() {
    let snapshot = numbered();
    let (page, history) = (page(snapshot.clone()), history(&snapshot));
    let shown = document(snapshot.clone(), SortKey::Packets, None);
    let (text, json) = (stats::text::text(&shown), serde_json::to_value(&shown).unwrap());
    let totals = [&json["interfaces"][0]["totals"], &history["totals"]];
    let mut sum = Count::default();
    for (reason, count) in snapshot.by_reason().each() {
        let (key, Count { packets, bytes }) = (reason.key(), count);
        // `verify variants` looks for the one that it has added.
        println!("shown: {key}");
        for totals in totals {
            assert_eq!(totals["by_reason"][key], serde_json::json!({"packets": packets, "bytes": bytes}));
        }
        for (unit, count) in [("packets", packets), ("bytes", bytes)] {
            let sample =
                format!("portguard_denied_{unit}_total{{interface=\"eth0\",reason=\"{key}\"}} {count}\n");
            assert!(page.contains(&sample), "{sample}{page}");
        }
        let row = [key.replace('_', " "), packets.to_string(), bytes.to_string()];
        let cells = |line: &str| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).eq(&row);
        assert!(text.lines().any(cells), "{row:?}: {text}");
        sum.add(count);
    }
    for totals in totals {
        assert_eq!(totals["by_reason"].as_object().unwrap().len(), DropReason::ALL.len());
        assert_eq!(totals["dropped"]["packets"], sum.packets);
    }
}

#[test]
fn each_procedure_is_wherever_they_are_shown() {
    let snapshot = numbered();
    let (page, history) = (page(snapshot.clone()), history(&snapshot));
    let shown = document(snapshot.clone(), SortKey::Packets, None);
    let evidence = evidence(true, snapshot.clone(), &answers(), None);
    let (text, report_text) = (stats::text::text(&shown), report::text::text(&evidence));
    let (csv, report_csv) =
        (stats::document::csv(&shown).unwrap(), report::document::csv(&evidence).unwrap());
    let json = serde_json::to_value(&shown).unwrap();
    let evidence = serde_json::to_value(&evidence).unwrap();
    let interfaces = [&json["interfaces"][0], &evidence["interfaces"][0]];
    for request in Request::all() {
        let (protocol, procedure) = (request.protocol(), request.procedure());
        let count = snapshot.requests[request.index()];
        for interface in interfaces {
            for calls in [&interface["totals"]["calls"], &interface["sources"][0]["calls"]] {
                assert_eq!(calls[key(protocol)][procedure.key()], count, "{calls}");
            }
        }
        let row = &evidence["interfaces"][0]["procedures"][procedure as usize];
        assert_eq!((&row["procedure"], &row[key(protocol)]), (&procedure.key().into(), &count.into()));
        for requests in [&history["requests"], &history["sources"][0]["requests"]] {
            assert_eq!(requests[key(protocol)][procedure.key()], count, "{requests}");
        }
        let labels = format!("protocol=\"{}\",procedure=\"{}\"", protocol.key(), procedure.key());
        let sample = format!("portguard_requests_total{{interface=\"eth0\",{labels}}} {count}\n");
        assert!(page.contains(&sample), "{sample}{page}");
        for csv in [&csv, &report_csv] {
            let [header, row] = [0, 1].map(|line| csv.lines().nth(line).unwrap().split(','));
            let column = format!("{}_{}", protocol.key(), procedure.key());
            assert_eq!(
                header.zip(row).find(|(name, _)| *name == column),
                Some((&*column, &*count.to_string()))
            );
        }
        for text in [&text, &report_text] {
            assert!(text.contains(&count.to_string()), "{procedure:?}: {text}");
        }
    }
    let calls = &json["interfaces"][0]["totals"]["calls"];
    assert_eq!(calls.as_object().unwrap().len(), Protocol::ALL.len());
    assert_eq!(calls["udp"].as_object().unwrap().len(), Procedure::ALL.len());
}
