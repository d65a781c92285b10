//! What each witness says, and what the wire shows.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use portguard_testkit::net::{rpc, wait_until};
use serde_json::Value;

use super::alerts;
use crate::support::{ALLOWED, DENIED, IFACE, PATIENCE, Role, SERVER, Service, Testbed, ask, samples};

/// Where the services are that were given a port and no address.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9111);
/// What is sent behind a packet to port 111, to know when that has arrived, goes there.
const BEHIND: u16 = rpc::PORT + 1;
/// A packet that is late, because another CPU has it, arrives within this time.
const GRACE: Duration = Duration::from_millis(50);

/// How it is with the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// What the list does not allow is dropped.
    Enforcing,
    /// It is counted, and passes.
    Audit,
    /// The interface is there, and has no guard.
    Open,
    /// There is no such interface.
    Waiting,
}

/// What is to be said of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) condition: Condition,
    /// Whether it is as the service is ordered; none if no service keeps it.
    pub(super) as_ordered: Option<bool>,
}

impl Expected {
    pub(super) fn without_guard(condition: Condition) -> Self {
        Self { condition, as_ordered: None }
    }

    fn has_guard(self) -> bool {
        matches!(self.condition, Condition::Enforcing | Condition::Audit)
    }
}

/// What a witness says. Not every witness tells everything.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    condition: Option<Condition>,
    as_ordered: Option<bool>,
}

/// Asks the wire and all witnesses: those of the service only if there is one that answers.
#[track_caller]
pub(super) fn assert_agree(testbed: &Testbed, service: Option<&Service>, expected: Expected) {
    let arrives = match expected.condition {
        Condition::Enforcing => Arrivals { allowed: true, denied: false },
        Condition::Audit | Condition::Open | Condition::Waiting => Arrivals { allowed: true, denied: true },
    };
    assert_eq!(arrivals(testbed), arrives, "{expected:?}: the wire");
    let whole = Said { condition: Some(expected.condition), as_ordered: expected.as_ordered };
    assert_eq!(status(testbed, service), whole, "status");
    assert_eq!(explain(testbed), whole, "explain");
    assert_eq!(doctor(testbed, service.is_some()), whole, "doctor");
    status_text(testbed, expected);
    if service.is_some() {
        assert_eq!(metrics(testbed), whole, "the metrics");
        health(testbed, expected);
        alerts(testbed, expected);
    }
}

/// Whose packets to port 111 arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrivals {
    pub(super) allowed: bool,
    pub(super) denied: bool,
}

/// Sends a packet from each role over each family.
#[track_caller]
pub(super) fn arrivals(testbed: &Testbed) -> Arrivals {
    let [allowed, denied] = Role::CLIENTS.map(|role| {
        let arrived = [0, 1].map(|family| arrives(testbed, role, family));
        assert_eq!(arrived[0], arrived[1], "{role:?}: IPv4 and IPv6");
        arrived[0]
    });
    Arrivals { allowed, denied }
}

fn arrives(testbed: &Testbed, role: Role, family: usize) -> bool {
    let bind = |port| {
        let mut bound = None;
        // A process that another test has just forked may hold on to a socket that this one has closed.
        let free = wait_until("the port is free", PATIENCE, || {
            bound = testbed.server.run(|| UdpSocket::bind((SERVER[family], port))).ok();
            Ok(bound.is_some())
        });
        free.unwrap_or_else(|error| panic!("{error:#}"));
        let socket = bound.expect("it is bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        socket
    };
    let (guarded, behind) = (bind(rpc::PORT), bind(BEHIND));
    let from = role.addresses()[family];
    let client = testbed.host(role).run(|| UdpSocket::bind((from, 0))).expect("a UDP socket");
    for port in [rpc::PORT, BEHIND] {
        client.send_to(&rpc::dump_call(), (SERVER[family], port)).expect("a packet that is sent");
    }
    let mut packet = [0; 256];
    let (_, sender) = behind.recv_from(&mut packet).expect("no guard keeps packets to this port off");
    assert_eq!(sender.ip(), from);
    guarded.set_read_timeout(Some(GRACE)).expect("SO_RCVTIMEO");
    match guarded.recv_from(&mut packet) {
        Ok((_, sender)) => sender.ip() == from,
        Err(_) => false,
    }
}

fn status(testbed: &Testbed, service: Option<&Service>) -> Said {
    let portguard = testbed.portguard();
    let unguarded = portguard.unguarded();
    let guards = portguard.all_status();
    match (&guards[..], &unguarded[..]) {
        ([guard], []) => {
            assert_eq!(guard.interface, IFACE);
            assert_eq!(guard.order.audit, !guard.enforcing);
            assert_eq!(guard.service.as_ref().map(|it| it.pid), service.map(Service::id));
            let condition = if guard.enforcing { Condition::Enforcing } else { Condition::Audit };
            let as_ordered = guard.service.as_ref().map(|service| {
                assert_eq!(service.as_ordered, service.differences.is_empty(), "{service:?}");
                service.as_ordered
            });
            Said { condition: Some(condition), as_ordered }
        }
        ([], [unguarded]) => {
            assert_eq!(unguarded.interface, IFACE);
            assert_eq!(unguarded.service.as_ref().map(|it| it.pid), service.map(Service::id));
            let condition = match &*unguarded.state {
                "open" => Condition::Open,
                "waiting" => Condition::Waiting,
                other => panic!("{other}"),
            };
            Said { condition: Some(condition), as_ordered: None }
        }
        other => panic!("{other:?}"),
    }
}

/// What `status` says to the eye.
#[track_caller]
fn status_text(testbed: &Testbed, expected: Expected) {
    let text = testbed.portguard().run(&["status"]).stdout;
    let conditions = [
        (Condition::Enforcing, "eth0: enforcing"),
        (Condition::Audit, "eth0: audit only, nothing is dropped"),
        (Condition::Open, "eth0: NOT GUARDED, port 111 is open"),
        (Condition::Waiting, "eth0: waiting for the interface (process "),
    ];
    for (condition, words) in conditions {
        assert_eq!(text.contains(words), condition == expected.condition, "{words}: {text}");
    }
    assert_eq!(text.contains(", as ordered"), expected.as_ordered == Some(true), "{text}");
    assert_eq!(text.contains("NOT AS ORDERED: "), expected.as_ordered == Some(false), "{text}");
}

fn explain(testbed: &Testbed) -> Said {
    let mut arguments = vec!["explain".to_owned(), "--json".to_owned()];
    arguments.extend(ALLOWED.into_iter().chain(DENIED).map(|address| address.to_string()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = testbed.portguard().run(&arguments);
    let document: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let verdicts = document["verdicts"].as_array().expect("verdicts");
    assert_eq!(verdicts.len(), 4, "{document}");
    let (allowed, denied) = verdicts.split_at(2);
    assert!(allowed.iter().all(|verdict| verdict["verdict"] == "allowed"), "{document}");
    let denied = &denied[0];
    if denied["judged_by"] == "file" {
        let unguarded = document["unguarded"].as_array().expect("interfaces");
        let [unguarded] = &unguarded[..] else { panic!("{document}") };
        let condition = match unguarded["state"].as_str() {
            Some("open") => Condition::Open,
            Some("waiting") => Condition::Waiting,
            other => panic!("{other:?}"),
        };
        return Said { condition: Some(condition), as_ordered: None };
    }
    assert_eq!(document["unguarded"].as_array().map(Vec::len), Some(0), "{document}");
    let condition = match denied["verdict"].as_str() {
        Some("dropped") => Condition::Enforcing,
        Some("would_drop") => Condition::Audit,
        other => panic!("{other:?}"),
    };
    let text =
        testbed.portguard().run(&arguments.iter().copied().filter(|it| *it != "--json").collect::<Vec<_>>());
    assert_eq!(text.stdout.contains("passes in audit mode"), condition == Condition::Audit, "{text:?}");
    for verdict in verdicts {
        assert_eq!(verdict["enforcing"], condition == Condition::Enforcing, "{document}");
        let as_ordered = verdict["service"]["as_ordered"].as_bool();
        assert_eq!(as_ordered, denied["service"]["as_ordered"].as_bool(), "{document}");
        assert_eq!(text.stdout.contains("NOT AS ORDERED"), as_ordered == Some(false), "{text:?}");
    }
    Said { condition: Some(condition), as_ordered: denied["service"]["as_ordered"].as_bool() }
}

/// The findings of `doctor` about an interface, each with its status.
pub(super) fn findings(testbed: &Testbed) -> Vec<(String, String, Value)> {
    let output = testbed.portguard().run(&["doctor", "--json"]);
    let document: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = document["findings"].as_array().expect("findings").iter();
    let word = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    findings
        .filter(|finding| finding["subject"] == IFACE)
        .map(|finding| (word(finding, "id"), word(finding, "status"), finding.clone()))
        .collect()
}

fn doctor(testbed: &Testbed, is_served: bool) -> Said {
    let findings = findings(testbed);
    let status = |id: &str| findings.iter().find(|(of, ..)| of == id).map(|(_, status, _)| &**status);
    let as_ordered = status("guard.order").map(|status| match status {
        "ok" => true,
        "failure" => false,
        other => panic!("{other}: {findings:#?}"),
    });
    let condition = match (status("guard"), status("coverage")) {
        (Some("ok"), Some("ok")) => Condition::Enforcing,
        (Some("warning"), Some("warning")) => Condition::Audit,
        // An interface that is not there is not covered by anything.
        (None, None) => {
            assert_eq!(status("guard.waiting"), Some("warning"), "{findings:#?}");
            Condition::Waiting
        }
        (None, Some("warning" | "failure")) => {
            let id = if is_served { "guard.open" } else { "guard.gone" };
            assert_eq!(status(id), Some("failure"), "{findings:#?}");
            Condition::Open
        }
        other => panic!("{other:?}: {findings:#?}"),
    };
    assert_eq!(status("guard.open").is_some(), is_served && condition == Condition::Open, "{findings:#?}");
    assert_eq!(status("guard.waiting").is_some(), condition == Condition::Waiting, "{findings:#?}");
    Said { condition: Some(condition), as_ordered }
}

fn page(testbed: &Testbed) -> std::collections::BTreeMap<String, f64> {
    let answer = ask(testbed.server.namespace(), METRICS, "GET /metrics", "").expect("an answer");
    samples(&answer.body)
}

fn metrics(testbed: &Testbed) -> Said {
    let samples = page(testbed);
    let truth = |name: &str| {
        let value = samples.get(&format!("portguard_{name}{{interface=\"eth0\"}}"))?;
        Some(*value == 1.0)
    };
    let condition = match (truth("interface_present"), truth("guard_attached"), truth("guard_enforcing")) {
        (Some(false), Some(false), None) => Condition::Waiting,
        (Some(true), Some(false), None) => Condition::Open,
        (Some(true), Some(true), Some(true)) => Condition::Enforcing,
        (Some(true), Some(true), Some(false)) => Condition::Audit,
        other => panic!("{other:?}"),
    };
    Said { condition: Some(condition), as_ordered: truth("guard_as_ordered") }
}

#[track_caller]
fn health(testbed: &Testbed, expected: Expected) {
    let answer = ask(testbed.server.namespace(), METRICS, "GET /healthz", "").expect("an answer");
    let (status, words) = match (expected.as_ordered, expected.condition) {
        (Some(true), Condition::Enforcing) => (200, "eth0: enforcing\n"),
        (Some(true), Condition::Audit) => (200, "eth0: audit mode, as ordered: nothing is dropped\n"),
        (_, Condition::Open) => (503, "eth0: not guarded\n"),
        (_, Condition::Waiting) => (503, "eth0: not guarded: there is no such interface\n"),
        (_, Condition::Enforcing | Condition::Audit) => (503, "eth0: not as ordered: "),
    };
    assert_eq!(answer.status, status, "{expected:?}: {answer:?}");
    assert!(answer.body.starts_with(words), "{expected:?}: {answer:?}");
}

#[track_caller]
fn alerts(testbed: &Testbed, expected: Expected) {
    let mut fire = match expected.condition {
        Condition::Enforcing => vec![],
        Condition::Audit => vec!["PortguardAudit"],
        Condition::Open => vec!["PortguardOpen"],
        Condition::Waiting => vec!["PortguardInterfaceMissing"],
    };
    fire.extend((expected.as_ordered == Some(false)).then_some("PortguardNotAsOrdered"));
    assert!(expected.has_guard() || expected.as_ordered.is_none());
    alerts::assert_fire(&page(testbed), IFACE, &fire);
}
