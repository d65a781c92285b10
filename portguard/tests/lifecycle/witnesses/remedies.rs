//! What `doctor` says is to be done about a guard: it works when it is typed, and changes nothing else.

use nix::sys::signal::Signal;

use super::testimony::{Condition, Expected, assert_agree, findings};
use super::{rename, serve, testbed};
use crate::orders::{DEFAULT_LIST, write_default_list};
use crate::support::{IFACE, OrderStatus, Output, PORTGUARD, Testbed, Typed, detach_link, has_tcx, typed};

const ENFORCING: Expected = Expected { condition: Condition::Enforcing, as_ordered: None };
const AUDIT: Expected = Expected { condition: Condition::Audit, as_ordered: None };

/// The remedy of each finding about the guard that is not ok; all of them must be the same one.
#[track_caller]
fn remedy(testbed: &Testbed, ids: &[&str]) -> String {
    let findings = findings(testbed);
    let mut remedies: Vec<&str> = Vec::new();
    for id in ids {
        let found =
            findings.iter().find(|(of, ..)| of == id).unwrap_or_else(|| panic!("no {id}: {findings:#?}"));
        remedies.push(found.2["remedy"].as_str().unwrap_or_else(|| panic!("{found:?}")));
    }
    remedies.dedup();
    let [remedy] = remedies[..] else { panic!("{remedies:#?}") };
    remedy.to_owned()
}

#[track_caller]
fn type_it(testbed: &Testbed, line: &str) {
    let place = Typed { machine: &testbed.machine, namespace: testbed.server.namespace() };
    let Output { code, stdout, stderr } = typed(place, line);
    assert_eq!(code, 0, "{line}: {stdout}{stderr}");
}

/// Findings 1.1 and 1.3.
#[test]
fn a_guard_in_audit_mode_gets_to_enforce_and_keeps_the_rest_of_its_order() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    let order = ["--audit", "--mode", "generic", "--sources", "512", "--allowlist", &other];
    portguard.ok(&[&["attach", IFACE], &order[..]].concat());
    let before = portguard.status();
    assert_agree(&testbed, None, AUDIT);
    let line = remedy(&testbed, &["guard", "coverage"]);
    assert_eq!(line, "portguard attach eth0 --enforce");
    type_it(&testbed, &line);
    assert_agree(&testbed, None, ENFORCING);
    let after = portguard.status();
    assert_eq!(after.order, OrderStatus { audit: false, ..before.order });
    assert_eq!(after.allowlist.sha256, before.allowlist.sha256);
}

#[test]
fn a_guard_whose_link_is_gone_gets_the_order_back_that_it_had() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    let named: [&[&str]; 3] =
        [&[], &["--allowlist", &other], &["--audit", "--sources", "512", "--allowlist", &other]];
    for order in named {
        portguard.ok(&[&["attach", IFACE], order].concat());
        let before = portguard.status().order;
        detach_link(&testbed.machine, portguard, IFACE);
        assert_agree(&testbed, None, Expected::without_guard(Condition::Open));
        let line = remedy(&testbed, &["guard.gone", "coverage"]);
        type_it(&testbed, &line);
        assert_eq!(portguard.status().order, before, "{line}");
        assert_agree(&testbed, None, if before.audit { AUDIT } else { ENFORCING });
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn an_interface_that_never_had_a_guard_gets_one_with_a_list_that_lets_somebody_in() {
    let (testbed, _) = testbed();
    let line = remedy(&testbed, &["coverage"]);
    assert_eq!(line, "portguard attach eth0");
    type_it(&testbed, &line);
    assert_agree(&testbed, None, ENFORCING);
    // As it is shipped.
    let empty = Testbed::new(PORTGUARD);
    write_default_list(&empty.machine, "allow: []\n");
    let line = remedy(&empty, &["coverage"]);
    assert!(line.contains("portguard suggest") && line.contains(DEFAULT_LIST), "{line}");
}

#[test]
fn a_guard_of_a_service_is_changed_where_the_service_is_ordered() {
    let (testbed, _) = testbed();
    let portguard = testbed.portguard();
    let mut service = serve(&testbed, &[IFACE, "--audit"]);
    let line = remedy(&testbed, &["guard", "coverage"]);
    let place = format!("the command line of process {}", service.id());
    assert!(
        line.contains(&place) && line.contains("--audit") && !line.contains("portguard attach"),
        "{line}"
    );
    // What it said before is refused.
    portguard.fails(1, &["attach", IFACE, "--enforce"]);
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    let service = serve(&testbed, &[IFACE]);
    assert_agree(&testbed, Some(&service), Expected { as_ordered: Some(true), ..ENFORCING });
}

#[test]
fn a_mode_that_cannot_be_restored_takes_a_new_guard() {
    let (testbed, other) = testbed();
    let portguard = testbed.portguard();
    rename(&testbed, IFACE, "later0");
    portguard.ok(&["attach", "later0", "--mode", "generic", "--allowlist", &other]);
    let arguments = [IFACE, "--mode", "native"];
    let mut service = serve(&testbed, &arguments);
    rename(&testbed, "later0", IFACE);
    service.until_said("eth0: cannot change the mode from generic to native");
    let line = remedy(&testbed, &["guard.order"]);
    let command = if has_tcx() { "portguard attach eth0 --hook tcx" } else { "portguard detach eth0" };
    assert!(line.contains(&format!("stop the service, run {command}, and start the service")), "{line}");
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    type_it(&testbed, command);
    let service = serve(&testbed, &arguments);
    assert_agree(&testbed, Some(&service), Expected { as_ordered: Some(true), ..ENFORCING });
    assert_eq!(portguard.status().mode, "native");
}
