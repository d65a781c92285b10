//! `--confirm` with lists that have conditions: what was not confirmed is gone, with its conditions, or they are back.

use std::time::Duration;

use super::{entries, write};
use crate::explain::explained;
use crate::support::{
    ALLOWED, DENIED, IFACE, OTHER, PATIENCE, PORTGUARD, Portguard, Role, Status, Testbed, under_traffic,
};

/// What is in force: how many entries have conditions, and what becomes of packets.
fn in_force(portguard: Portguard<'_>) -> (Option<String>, u32, String, Vec<Option<String>>) {
    let Status { confirmation, allowlist, .. } = portguard.status();
    let sources = [ALLOWED[0], DENIED[0], OTHER[0]].map(|source| source.to_string());
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let told = explained(portguard, &[&sources[..], &["--proto", "udp"]].concat());
    let reasons = told.into_iter().map(|verdict| verdict.reason).collect();
    (confirmation.map(|it| it.state), allowlist.conditional, allowlist.path, reasons)
}

#[track_caller]
fn until(portguard: Portguard<'_>, state: Option<&str>) {
    let reached = portguard_testkit::net::wait_until("another state", PATIENCE, || {
        Ok(portguard.status().confirmation.map(|it| it.state).as_deref() == state)
    });
    assert!(reached.is_ok(), "{state:?}: {:?}", portguard.status());
    // Who restores holds the lock until all is done, and this waits for the lock.
    portguard.run(&["explain", "192.0.2.10"]);
}

#[test]
fn a_list_with_conditions_that_is_not_confirmed_goes_and_one_that_it_replaced_comes_back() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let plain = write(&testbed, "plain.yaml", &[entries(Role::Allowed, &[]), entries(Role::Victim, &[])]);
    let conditional = write(
        &testbed,
        "conditional.yaml",
        &[
            entries(Role::Allowed, &["until: 2199-12-31", "interfaces: eth0", "rate: 1000000/s"]),
            entries(Role::Victim, &["until: 2020-01-01"]),
            entries(Role::Denied, &["interfaces: other"]),
        ],
    );
    let denied = |reasons: [Option<&str>; 3]| reasons.map(|reason| reason.map(str::to_owned)).to_vec();
    let of_plain = (0, plain.clone(), denied([None, Some("not_allowed"), None]));
    let of_conditional = (6, conditional.clone(), denied([None, Some("wrong_interface"), Some("expired")]));
    portguard.ok(&["attach", IFACE, "--allowlist", &plain]);
    let mut rejected = None;
    let ((), exchanged) = under_traffic(&testbed, || {
        for (before, after) in [(&of_plain, &of_conditional), (&of_conditional, &of_plain)] {
            for verb in ["reload", "attach"] {
                portguard.ok(&["attach", IFACE, "--allowlist", &before.1]);
                let (count, path, reasons) = before.clone();
                assert_eq!(in_force(portguard), (None, count, path, reasons), "{verb}");
                // Not confirmed: it is taken back.
                portguard.ok(&[verb, IFACE, "--allowlist", &after.1, "--confirm=2"]);
                let (count, path, reasons) = after.clone();
                let on_trial = in_force(portguard);
                if on_trial.0.as_deref() == Some("pending") {
                    assert_eq!((on_trial.1, on_trial.2, on_trial.3), (count, path, reasons), "{verb}");
                }
                until(portguard, Some("rejected"));
                let (count, path, reasons) = before.clone();
                rejected = Some("rejected".to_owned());
                assert_eq!(in_force(portguard), (rejected.clone(), count, path, reasons), "{verb}");
                // Confirmed: it stays.
                portguard.ok(&[verb, IFACE, "--allowlist", &after.1, "--confirm=600"]);
                portguard.ok(&["confirm"]);
                let (count, path, reasons) = after.clone();
                assert_eq!(in_force(portguard), (None, count, path, reasons), "{verb}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    assert!(rejected.is_some());
    exchanged.assert_sealed();
    let stats = portguard.stats_of(exchanged.sent().packets);
    assert_eq!(stats.totals.allowed, exchanged.sent_allowed());
    assert_eq!(stats.denied(), exchanged.sent_denied());
    assert_eq!(stats.by_source(), exchanged.denied().collect());
    testbed.machine.assert_tidy(1);
}
