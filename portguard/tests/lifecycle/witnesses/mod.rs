//! Six witnesses tell how it is with a guard: `status`, `/healthz`, the metrics, the alerts, `explain` and `doctor`. They
//! must agree, and what they say must be what an allowed and a denied source find on the wire.

mod alerts;
mod remedies;
mod restored;
mod testimony;

use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use portguard_testkit::net::run;

use self::testimony::{Condition, Expected, assert_agree};
use crate::orders::{DEFAULT_LIST, write_default_list};
use crate::support::{IFACE, PORTGUARD, Service, Testbed, behind_its_back, detach_link, pause};

/// A guard, and who keeps it.
#[derive(Debug, Clone, Copy)]
struct Case {
    kept: bool,
    audit: bool,
    other_list: bool,
    mode: &'static str,
    sources: Option<&'static str>,
}

impl Case {
    /// Each combination.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for kept in [false, true] {
            for audit in [false, true] {
                for other_list in [false, true] {
                    for mode in ["native", "generic"] {
                        for sources in [None, Some("512")] {
                            all.push(Self { kept, audit, other_list, mode, sources });
                        }
                    }
                }
            }
        }
        all
    }

    /// The arguments of `attach` and of `run`.
    fn arguments<'a>(&self, other: &'a str) -> Vec<&'a str> {
        let mut arguments = vec![IFACE, "--mode", self.mode];
        arguments.extend(self.audit.then_some("--audit"));
        arguments.extend(self.sources.iter().flat_map(|sources| ["--sources", sources]));
        arguments.extend(self.other_list.then_some(["--allowlist", other]).into_iter().flatten());
        arguments
    }

    fn expected(&self) -> Expected {
        let condition = if self.audit { Condition::Audit } else { Condition::Enforcing };
        Expected { condition, as_ordered: self.kept.then_some(true) }
    }
}

/// A testbed with a default list. Returns another one, which covers the same sources and more.
fn testbed() -> (Testbed, String) {
    let testbed = Testbed::new(PORTGUARD);
    write_default_list(&testbed.machine, "allow:\n  - 192.0.2.0/24\n  - 2001:db8::/48\n");
    let other = testbed.lists.write("other.yaml", ["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/48"]);
    (testbed, other)
}

/// Starts a service with metrics.
#[track_caller]
fn serve(testbed: &Testbed, arguments: &[&str]) -> Service {
    Service::start(testbed.portguard(), &[arguments, &["--metrics", "9111"]].concat())
}

#[track_caller]
fn try_case(testbed: &Testbed, other: &str, case: Case) {
    eprintln!("{case:?}");
    let portguard = testbed.portguard();
    let arguments = case.arguments(other);
    let service = if case.kept {
        Some(serve(testbed, &arguments))
    } else {
        portguard.ok(&[&["attach"], &arguments[..]].concat());
        None
    };
    assert_agree(testbed, service.as_ref(), case.expected());
    let order = portguard.status().order;
    assert_eq!(order.allowlist, if case.other_list { other } else { DEFAULT_LIST });
    assert_eq!((&*order.mode, order.audit, order.log_rate), (case.mode, case.audit, None));
    assert_eq!(order.sources, testbed.machine.sources_of(&portguard.status()));
    assert_eq!(order.sources == 512, case.sources.is_some());
    if let Some(mut service) = service {
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
        // The guard stays; nobody keeps it any more.
        assert_agree(testbed, None, Expected { as_ordered: None, ..case.expected() });
    }
    portguard.ok(&["detach", IFACE]);
}

#[test]
fn they_agree_with_the_wire_about_every_order_of_a_guard() {
    let all = Case::all();
    assert_eq!(all.len(), 32);
    thread::scope(|scope| {
        for cases in all.chunks(8) {
            scope.spawn(move || {
                let (testbed, other) = testbed();
                cases.iter().for_each(|case| try_case(&testbed, &other, *case));
            });
        }
    });
}

/// Renames an interface of the server. It need not be down for that.
fn rename(testbed: &Testbed, from: &str, to: &str) {
    testbed.server.namespace().ip(&format!("link set {from} name {to}")).expect("renaming");
}

#[test]
fn they_agree_with_the_wire_about_interfaces_without_a_guard() {
    let (testbed, _) = testbed();
    let server = testbed.server.namespace();
    rename(&testbed, IFACE, "later0");
    let mut service = serve(&testbed, &[IFACE, "--hook", "xdp"]);
    assert_agree(&testbed, Some(&service), Expected::without_guard(Condition::Waiting));

    // It comes with the program of somebody else.
    let mut foreign: Command = testbed.machine.command(server, "xdp-filter");
    run(foreign.args(["load", "--mode", "skb", "--features", "udp", "later0"])).expect("xdp-filter");
    rename(&testbed, "later0", IFACE);
    service.until_said("eth0: NOT GUARDED, port 111 is open");
    assert_agree(&testbed, Some(&service), Expected::without_guard(Condition::Open));
    let [open] = testbed.portguard().unguarded().try_into().expect("one interface");
    assert!(open.why.is_some_and(|why| why.contains("another XDP program is attached already")));

    // The cause is removed, as doctor says.
    server.ip(&format!("link set {IFACE} xdpgeneric off")).expect("the foreign program goes");
    service.wait_until("it is guarded", || testbed.portguard().all_status().len() == 1);
    let enforcing = Expected { condition: Condition::Enforcing, as_ordered: Some(true) };
    assert_agree(&testbed, Some(&service), enforcing);

    // The guard is taken off while the service can neither notice nor answer.
    pause(&testbed.machine, &service);
    detach_link(&testbed.machine, testbed.portguard(), IFACE);
    assert_agree(&testbed, None, Expected::without_guard(Condition::Open));
    service.signal(Signal::SIGCONT);
    service.wait_until("it is guarded", || testbed.portguard().all_status().len() == 1);
    assert_agree(&testbed, Some(&service), enforcing);

    // By hand, and nobody puts it back.
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    detach_link(&testbed.machine, testbed.portguard(), IFACE);
    assert_agree(&testbed, None, Expected::without_guard(Condition::Open));
}

#[test]
fn they_agree_with_the_wire_about_guards_that_are_not_as_ordered() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    let default = ["--allowlist", DEFAULT_LIST];
    for ordered_audit in [false, true] {
        let mode = if ordered_audit { "--audit" } else { "--enforce" };
        let opposite = if ordered_audit { "--enforce" } else { "--audit" };
        for (behind, audit, difference) in [
            (&[mode, "--allowlist", &other][..], ordered_audit, "allowlist "),
            (&[opposite, "--allowlist", DEFAULT_LIST], !ordered_audit, "audit"),
            (&[opposite, "--allowlist", &other], !ordered_audit, "allowlist "),
            (&[mode, "--sources", "512", "--allowlist", DEFAULT_LIST], ordered_audit, "sources "),
        ] {
            eprintln!("{mode}, and behind its back: {behind:?}");
            let service = serve(&testbed, &[&[IFACE, mode, "--sources", "1024"], &default[..]].concat());
            let held = behind_its_back(&testbed.machine, portguard, &service, behind);
            let condition = if audit { Condition::Audit } else { Condition::Enforcing };
            assert_agree(&testbed, Some(&service), Expected { condition, as_ordered: Some(false) });
            let differences = portguard.status().service.expect("a service").differences;
            assert!(differences.iter().any(|part| part.contains(difference)), "{differences:?}");
            drop(held);
            service.wait_until("it is restored", || {
                portguard.status().service.is_some_and(|service| service.as_ordered)
            });
            let condition = if ordered_audit { Condition::Audit } else { Condition::Enforcing };
            assert_agree(&testbed, Some(&service), Expected { condition, as_ordered: Some(true) });
            drop(service);
            portguard.ok(&["detach", IFACE]);
        }
    }
}

/// A guard keeps its mode. The rest of the order is restored all the same: here it lets everything through first.
#[test]
fn they_agree_about_a_guard_whose_mode_cannot_be_restored() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    rename(&testbed, IFACE, "later0");
    portguard.ok(&["attach", "later0", "--audit", "--mode", "generic", "--allowlist", &other]);
    let service = serve(&testbed, &[IFACE, "--mode", "native"]);
    rename(&testbed, "later0", IFACE);
    service.until_said("eth0: cannot change the mode from generic to native");
    service.wait_until("it enforces", || portguard.status().enforcing);
    let expected = Expected { condition: Condition::Enforcing, as_ordered: Some(false) };
    assert_agree(&testbed, Some(&service), expected);
    let differences = portguard.status().service.expect("a service").differences;
    assert_eq!(differences, ["mode generic -> native"]);
}
