//! `until`: an entry ends by itself.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use portguard_testkit::net::{Forger, Namespace, Outcome, RpcServices, rpc, run_within};

use super::{called_by, entries, in_seconds, write};
use crate::explain::verdict;
use crate::support::{ALLOWED, DENIED, IFACE, Output, PORTGUARD, Role, SERVER, SILENCE, Testbed, port_111};

/// An entry may allow for so long after its end: two clocks are not read at once.
const SLACK: SignedDuration = SignedDuration::from_secs(1);

/// Asks rpcbind for its `NULL`, and when it did so.
fn asked(testbed: &Testbed, family: usize, until: Timestamp) -> (Timestamp, bool, Timestamp) {
    let begun = Timestamp::now();
    // What is sent before the end is answered, however busy this machine is.
    let left = Duration::try_from(until.duration_since(begun)).unwrap_or_default();
    let ask = || rpc::answers_null(port_111(SERVER[family]), left + SILENCE).expect("asking");
    let is_answered = testbed.host(Role::Allowed).run(ask);
    (begun, is_answered, Timestamp::now())
}

/// The processes of portguard in a network namespace.
fn portguards_in(namespace: &Namespace) -> usize {
    let namespace = namespace.run(|| fs::read_link("/proc/thread-self/ns/net")).expect("a network namespace");
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let is_one = |process: &Path| {
        fs::read_link(process.join("ns/net")).is_ok_and(|it| it == namespace)
            && fs::read_link(process.join("exe")).is_ok_and(|it| it == Path::new(PORTGUARD))
    };
    processes.filter(|process| is_one(&process.path())).count()
}

/// What a client asks with its own commands.
fn questions(family: usize) -> [Vec<String>; 3] {
    let (server, six) = (SERVER[family], ["", "6"][family]);
    [
        format!("-T udp{six} {server} 100000 4"),
        format!("-T tcp{six} {server} 100000 4"),
        format!("-p {server}"),
    ]
    .map(|line| line.split(' ').map(str::to_owned).collect())
}

#[test]
fn an_entry_answers_its_clients_until_its_end_and_then_no_more_without_any_process() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let client = testbed.host(Role::Allowed);
    let list = |until: Timestamp| {
        write(&testbed, "ends.yaml", &[entries(Role::Allowed, &[&format!("until: {until}")])])
    };
    let begun = Instant::now();
    portguard.ok(&["attach", IFACE, "--allowlist", &list(in_seconds(3600))]);
    // What follows takes a few times as long as that, on any machine.
    let until = in_seconds(5 + 8 * begun.elapsed().as_secs_f64().ceil() as i64);
    list(until);
    portguard.ok(&["reload", IFACE]);
    let before = verdict(portguard, &[&ALLOWED[0].to_string(), "--proto", "udp"]);
    assert_eq!((&*before.verdict, before.reason.as_deref()), ("allowed", None), "{before:?}");
    for family in [0, 1] {
        for question in questions(family) {
            let told = Output::of(client.command("rpcinfo").args(&question));
            assert!(told.code == 0 || Timestamp::now() >= until, "rpcinfo {question:?}: {told:?}");
        }
    }
    assert!(Timestamp::now() < until, "this machine takes too long for this test");
    assert_eq!(portguards_in(testbed.server.namespace()), 0);
    let allowed = portguard.stats();
    assert_eq!(allowed.denied().packets, 0, "{allowed:?}");

    let (mut answered, mut denied) = (0, 0);
    while denied < 4 {
        let (begun, is_answered, ended) = asked(&testbed, denied as usize % 2, until);
        if ended < until {
            assert!(is_answered, "from {begun} to {ended}, and the entry ends at {until}");
            answered += 1;
            thread::sleep(Duration::from_millis(20));
        } else if begun >= until + SLACK {
            assert!(!is_answered, "at {begun}, and the entry ended at {until}");
            denied += 1;
        }
    }
    assert!(answered > 0);
    assert_eq!(portguards_in(testbed.server.namespace()), 0);
    for family in [0, 1] {
        for question in questions(family) {
            let mut rpcinfo = client.command("rpcinfo");
            let outcome = run_within(SILENCE, rpcinfo.args(&question)).expect("rpcinfo");
            let refused = match &outcome {
                Outcome::Completed(done) => !done.status.success(),
                Outcome::TimedOut => true,
            };
            assert!(refused, "rpcinfo {question:?}: {outcome:?}");
        }
    }

    let stats = portguard.stats();
    let expired = stats.totals.by_reason.of("expired");
    assert!(expired.packets >= denied, "{stats:?}");
    assert_eq!(stats.denied(), expired, "for nothing else: {stats:?}");
    assert_eq!(stats.by_source().into_keys().collect::<Vec<_>>(), ALLOWED, "{stats:?}");
    assert_eq!(stats.unattributed.packets, 0);
    for source in ALLOWED {
        let ended = verdict(portguard, &[&source.to_string()]);
        assert_eq!((&*ended.verdict, ended.reason.as_deref()), ("dropped", Some("expired")), "{ended:?}");
        let of_entry = ended.entry.expect("an entry").conditions.expect("conditions");
        assert_eq!(of_entry.until, Some(until.to_string()));
        // As of any time: the end itself is over.
        let just_before = until - SignedDuration::from_nanos(1);
        for (at, reason) in [(until, Some("expired")), (just_before, None), (in_seconds(-86_400), None)] {
            let judged = verdict(portguard, &[&source.to_string(), "--at", &at.to_string()]);
            assert_eq!(judged.reason.as_deref(), reason, "{judged:?}");
        }
    }
    assert_eq!(portguard.stats(), stats, "asking moves no counter");
}

#[test]
fn an_entry_that_has_ended_inside_a_larger_one_cuts_its_hosts_off() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let neighbours = ["192.0.2.11", "2001:db8::11"].map(|address| address.parse().expect("an address"));
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a forger");
    let around = entries(Role::Allowed, &[]);
    for (until, ends) in [("2199-12-31T23:59:59Z", false), ("2020-01-01", true)] {
        let inside = ALLOWED.map(|client| format!("  - prefix: {client}\n    until: {until}\n")).concat();
        // Whatever comes first in the file.
        for list in [[inside.clone(), around.clone()], [around.clone(), inside.clone()]] {
            let list = write(&testbed, "inside.yaml", &list);
            portguard.ok(&["attach", IFACE, "--allowlist", &list]);
            for (family, neighbour) in neighbours.into_iter().enumerate() {
                forger.send(&called_by(neighbour, "null")).expect("sending");
                forger.send(&called_by(DENIED[family], "null")).expect("sending");
                let ask = || rpc::answers_null(port_111(SERVER[family]), SILENCE).expect("asking");
                assert_eq!(testbed.host(Role::Allowed).run(ask), !ends, "until {until}");
                let (host, other) = (ALLOWED[family].to_string(), neighbour.to_string());
                let told = verdict(portguard, &[&host]);
                assert_eq!(told.reason.as_deref(), ends.then_some("expired"), "{told:?}");
                let bits = if family == 0 { 32 } else { 128 };
                assert_eq!(told.entry.expect("an entry").prefix, format!("{host}/{bits}"));
                let told = verdict(portguard, &[&other]);
                assert_eq!((&*told.verdict, told.entry.is_some()), ("allowed", true), "{told:?}");
            }
            let stats = portguard.stats_of(6);
            let of = |reason| stats.totals.by_reason.of(reason).packets;
            let expected = if ends { (2, 2) } else { (0, 2) };
            assert_eq!((of("expired"), of("not_allowed")), expected, "{stats:?}");
            assert_eq!(stats.totals.allowed.packets, if ends { 2 } else { 4 }, "{stats:?}");
            portguard.ok(&["detach", IFACE]);
        }
    }
}
