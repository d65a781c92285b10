//! Guards that are renewed without their file: conditions are read back from the kernel.

use std::fs;

use nix::sys::signal::Signal;

use super::{entries, in_seconds, write};
use crate::explain::explained;
use crate::support::{
    ABI_6, IFACE, OTHER, PORTGUARD, Portguard, Role, Service, Testbed, attach_abi, under_traffic,
};

/// Sources of entries with conditions of all kinds.
const SOURCES: [&str; 7] =
    ["192.0.2.10", "198.51.100.20", "10.0.0.1", "10.1.0.1", "10.2.0.1", "10.3.0.1", "2001:db8:51::20"];

fn list(testbed: &Testbed) -> String {
    let end = format!("until: {}", in_seconds(7200));
    let of = |prefix: &str, condition: &str| format!("  - prefix: {prefix}\n    {condition}\n");
    write(
        testbed,
        "allowlist.yaml",
        &[
            entries(Role::Allowed, &[&end, "rate: 1000000/s"]),
            entries(Role::Denied, &["until: 2020-01-01"]),
            of("10.0.0.0/16", "interfaces: [other]"),
            of("10.1.0.0/16", "udp: lookups"),
            of("10.2.0.0/16", "interfaces: ['eth*']"),
            of("10.3.0.0/16", "rate: 7/s"),
            "  - 203.0.113.0/24\n".to_owned(),
        ],
    )
}

/// What the guard does with calls of all sources: the decision, the reason and the entry, and its conditions but for names.
fn judged(portguard: Portguard<'_>) -> Vec<String> {
    let other = OTHER[0].to_string();
    let sources: Vec<&str> = SOURCES.iter().copied().chain([&*other]).collect();
    let told = ["null", "dump"].map(|call| explained(portguard, &[&["--call", call][..], &sources].concat()));
    let shown = told.iter().flatten().map(|it| {
        let entry = it.entry.as_ref().expect("an entry");
        let conditions = entry.conditions.clone().unwrap_or_default();
        let (until, rate) = (conditions.until, conditions.rate);
        format!(
            "{} {:?} {:?}: {} {:?}, {}, {until:?} {rate:?}",
            it.source, it.protocols, it.call, it.verdict, it.reason, entry.prefix
        )
    });
    shown.collect()
}

/// A service without a list for its guard renews that with what the kernel has.
#[test]
fn a_renewal_keeps_conditions_when_the_file_is_broken_or_gone() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let path = list(&testbed);
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
    let (before, conditional) = (judged(portguard), portguard.status().allowlist.conditional);
    assert_eq!(conditional, 8);
    // Returns the number of the program.
    let renewed = |order: &[&str]| {
        let mut service = Service::start(portguard, &[&[IFACE, "--allowlist", &path][..], order].concat());
        assert!(service.said().contains("THE ALLOWLIST IS BROKEN"), "{}", service.said());
        let status = portguard.status();
        assert_eq!(status.allowlist.conditional, conditional, "{order:?}: {status:?}");
        assert_eq!(status.allowlist.deadlines_off_by, 0, "{order:?}");
        service.signal(Signal::SIGTERM);
        service.ended();
        status.program.id
    };
    let ((), exchanged) = under_traffic(&testbed, || {
        for broken in [true, false] {
            if broken {
                fs::write(&path, "allow: [").expect("writing");
            } else {
                fs::remove_file(&path).expect("removing");
            }
            let mut program = portguard.status().program.id;
            for order in [&["--sources", "512"][..], &["--log-drops", "--log-rate", "5"], &[]] {
                let is = renewed(order);
                assert_ne!(is, program, "{order:?}: the guard was renewed");
                assert_eq!(judged(portguard), before, "{order:?}, broken: {broken}");
                program = is;
            }
            // A command without a list changes nothing.
            let told = portguard.run(&["attach", IFACE, "--sources", "256"]);
            assert_ne!(told.code, 0, "{told:?}");
            assert_eq!(portguard.status().program.id, program);
            assert_eq!(judged(portguard), before);
        }
    });
    exchanged.assert_sealed();
    let stats = portguard.stats_of(exchanged.sent().packets);
    assert_eq!(stats.totals.allowed, exchanged.sent_allowed());
    assert_eq!(stats.totals.by_reason.of("expired"), exchanged.sent_denied(), "{stats:?}");

    // In audit mode the same would be dropped; and back.
    renewed(&["--audit"]);
    let audit: Vec<String> = before.iter().map(|line| line.replace("dropped", "would_drop")).collect();
    assert_eq!(judged(portguard), audit);
    renewed(&["--enforce"]);
    assert_eq!(judged(portguard), before);
    testbed.machine.assert_tidy(1);
}

#[test]
fn a_service_that_starts_with_a_broken_file_keeps_the_conditions_in_force() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let path = list(&testbed);
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
    let before = judged(portguard);
    fs::write(&path, "allow: [").expect("writing");
    let service = Service::start(portguard, &[IFACE, "--allowlist", &path, "--sources", "512"]);
    assert!(service.said().contains("THE ALLOWLIST IS BROKEN"), "{}", service.said());
    assert_eq!(judged(portguard), before);
    // A new guard gets the copy of the last good list, with its conditions.
    portguard.run(&["explain", "192.0.2.10"]);
    drop(service);
    portguard.ok(&["detach", IFACE]);
    let service = Service::start(portguard, &[IFACE, "--allowlist", &path]);
    assert!(service.said().contains("guarded with the last list that was in force"), "{}", service.said());
    assert_eq!(judged(portguard), before);
}

/// A guard of an ABI that knows no conditions gets a list with some, in place.
#[test]
fn an_upgrade_from_an_earlier_abi_brings_conditions_and_none_come_from_nowhere() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let plain = write(&testbed, "plain.yaml", &[entries(Role::Allowed, &[])]);
    attach_abi(&testbed, ABI_6, &["--allowlist", &plain]);
    assert_eq!(portguard.status().allowlist.conditional, 0);
    let path = list(&testbed);
    let ((), exchanged) = under_traffic(&testbed, || {
        portguard.ok(&["attach", IFACE, "--allowlist", &path]);
        let status = portguard.status();
        assert_eq!(status.program.abi_version, portguard_common::ABI_VERSION);
        assert_eq!(status.allowlist.conditional, 8);
    });
    exchanged.assert_sealed();
    let stats = portguard.stats_of(exchanged.sent().packets);
    assert_eq!(stats.totals.allowed, exchanged.sent_allowed());
    assert_eq!(stats.by_source(), exchanged.denied().collect());
    assert!(stats.totals.by_reason.of("not_allowed").packets > 0, "before: {stats:?}");
    assert!(stats.totals.by_reason.of("expired").packets > 0, "after: {stats:?}");

    // The same guard, renewed from the kernel alone.
    portguard.ok(&["detach", IFACE]);
    attach_abi(&testbed, ABI_6, &["--allowlist", &plain]);
    portguard.ok(&["attach", IFACE]);
    assert_eq!(portguard.status().allowlist.conditional, 0);
    testbed.machine.assert_tidy(1);
}
