//! Lists with conditions that come and go while packets do.

use std::slice;

use super::{entries, write};
use crate::support::{ALLOWED, IFACE, PORTGUARD, Role, Testbed, TrafficTotals, is_long, under_traffic};

/// Asserts that each packet of the allowed host was delivered, none of the denied one, and each was counted once, whatever it was
/// denied for.
#[track_caller]
fn assert_accounted(testbed: &Testbed, exchanged: &TrafficTotals, reasons: &[&str]) {
    exchanged.assert_sealed();
    let stats = testbed.portguard().stats_of(exchanged.sent().packets);
    assert_eq!(stats.totals.allowed, exchanged.sent_allowed());
    assert_eq!(stats.denied(), exchanged.sent_denied(), "{:?}", stats.totals);
    assert_eq!(stats.by_source(), exchanged.denied().collect());
    for (reason, count) in stats.totals.by_reason.each() {
        assert_eq!(count.packets > 0, reasons.contains(&reason), "{reason}: {:?}", stats.totals);
    }
}

/// An entry of others with conditions, so that the list has some.
fn others(conditions: &[&str]) -> String {
    let lines = conditions.iter().map(|condition| format!("    {condition}\n")).collect::<String>();
    format!("  - prefix: 10.0.0.0/8\n{lines}")
}

/// From no conditions to conditions, to other ones, and to none again.
fn lists_take_turns(mode: &str) {
    let rounds = if is_long() { 50 } else { 4 };
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let plain = entries(Role::Allowed, &[]);
    let holds = ["interfaces: [eth*]", "until: 2199-12-31", "udp: all", "rate: 1000000/s"];
    let inside = ALLOWED.map(|client| format!("  - prefix: {client}\n    rate: 1000000/s\n")).concat();
    // The allowed host has an entry without conditions, then one with conditions that hold, and one inside another one; the denied
    // host has no entry, or one whose conditions fail.
    let lists = [
        write(&testbed, "0.yaml", slice::from_ref(&plain)),
        write(&testbed, "1.yaml", &[plain.clone(), others(&["until: 2020-01-01", "rate: 1/s"])]),
        write(&testbed, "2.yaml", &[entries(Role::Denied, &["until: 2020-01-01"]), plain.clone()]),
        write(&testbed, "3.yaml", &[plain.clone(), entries(Role::Denied, &["interfaces: [other, lan*]"])]),
        write(&testbed, "4.yaml", &[entries(Role::Allowed, &holds), others(&["udp: none"])]),
        write(&testbed, "5.yaml", &[entries(Role::Allowed, &["until: 2020-01-01"]), inside]),
    ];
    portguard.ok(&["attach", IFACE, "--allowlist", &lists[0], "--mode", mode]);
    let mut generation = 1;
    let ((), exchanged) = under_traffic(&testbed, || {
        for round in 0..rounds {
            for (number, list) in lists.iter().enumerate().skip(1).chain([(0, &lists[0])]) {
                portguard.ok(&["reload", IFACE, "--allowlist", list]);
                generation += 1;
                let status = portguard.status();
                let conditional = [0, 1, 2, 2, 3, 4][number];
                let found = (status.generation, status.allowlist.conditional);
                assert_eq!(found, (generation, conditional), "round {round}: {list}");
            }
        }
    });
    assert_accounted(&testbed, &exchanged, &["not_allowed", "expired", "wrong_interface"]);
    testbed.machine.assert_tidy(1);
}

#[test]
fn conditions_come_and_go_and_no_packet_leaks_and_none_is_lost_in_native_mode() {
    lists_take_turns("native");
}

#[test]
fn conditions_come_and_go_and_no_packet_leaks_and_none_is_lost_in_generic_mode() {
    lists_take_turns("generic");
}

/// In both lists the same entries: what was counted goes on, and only the conditions change.
#[test]
fn other_conditions_of_the_same_entries_are_told_and_put_in_force() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = |conditions: &[&str]| {
        write(&testbed, "same.yaml", &[entries(Role::Allowed, &[]), entries(Role::Denied, conditions)])
    };
    let path = list(&["until: 2020-01-01"]);
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
    let mut reasons = vec!["expired"];
    let ((), exchanged) = under_traffic(&testbed, || {
        for (conditions, reason) in [
            (&["interfaces: other"][..], "wrong_interface"),
            (&["udp: none"], "call_not_allowed"),
            (&["udp: lookups", "until: 2199-12-31"], "call_not_allowed"),
            (&["until: 2020-01-01", "rate: 9/s"], "expired"),
        ] {
            let before = portguard.stats().totals.by_reason.of(reason).packets;
            list(conditions);
            let told = portguard.ok(&["reload", IFACE]);
            assert!(told.contains("+0 -0"), "{told}");
            assert!(told.contains("198.51.100.0/24") || told.contains("conditions"), "{told}");
            let moved = portguard_testkit::net::wait_until("the reason", crate::support::PATIENCE, || {
                Ok(portguard.stats().totals.by_reason.of(reason).packets > before)
            });
            moved.expect(reason);
            reasons.push(reason);
        }
    });
    assert_accounted(&testbed, &exchanged, &reasons);
}
