//! What changes on trial, and comes back: each part of an order, alone and with others, and across ABIs.

use std::time::Duration;

use super::{LONG, SHORT, assert_restored, state, until_state, until_unwatched, write_longer};
use crate::support::{
    IFACE, PORTGUARD, SingleHost, Status, Testbed, TrafficTotals, attach_abi4, sum, under_traffic,
};

/// A change on trial is taken back under traffic. Returns what was sent.
#[track_caller]
fn taken_back(testbed: &Testbed, change: &[&str]) -> TrafficTotals {
    let portguard = testbed.portguard();
    let before = portguard.status();
    let ((), exchanged) = under_traffic(testbed, || {
        portguard.ok(&[change, &["--confirm=2"]].concat());
        assert_eq!(state(&portguard.status()), Some("pending"), "{change:?}");
        std::thread::sleep(Duration::from_millis(50));
        until_state(portguard, Some("rejected"));
    });
    until_unwatched(testbed);
    let after = portguard.status();
    let same = Status { confirmation: before.confirmation.clone(), ..after.clone() };
    assert_eq!(same, super::on_disk_of(&before, &after), "{change:?}");
    exchanged
}

#[test]
fn from_enforcing_to_audit_and_back_counts_each_packet_once() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let exchanged = taken_back(&testbed, &["attach", IFACE, "--audit"]);
    exchanged.assert_allowed_delivered();
    let stats = testbed.portguard().stats_of(exchanged.sent().packets);
    assert_eq!(stats.totals.allowed, exchanged.sent_allowed());
    assert_eq!(stats.by_source(), exchanged.denied().collect());
    assert!(stats.totals.would_drop.packets > 0 && stats.totals.dropped.packets > 0, "{:?}", stats.totals);
    let delivered: u64 = exchanged.denied().map(|(source, _)| exchanged.heard(source)).sum();
    assert_eq!(
        stats.totals.would_drop.packets, delivered,
        "what was delivered is what audit mode let through"
    );
    testbed.machine.assert_tidy_with(1, &["confirm"]);
}

#[test]
fn from_audit_to_enforcing_with_another_list_and_back_drops_nothing_that_either_allows() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let narrow = testbed.lists.write("narrow.yaml", ["198.51.100.0/24", "2001:db8:51::/48"]);
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &narrow]);
    // The list on trial allows what the other one does not.
    let wide = testbed.list();
    let exchanged = taken_back(&testbed, &["attach", IFACE, "--enforce", "--allowlist", &wide]);
    exchanged.assert_allowed_delivered();
    let status = portguard.status();
    assert_eq!((status.enforcing, status.allowlist.path), (false, narrow));
    let stats = portguard.stats_of(exchanged.sent().packets);
    let totals = &stats.totals;
    assert_eq!(sum([totals.allowed, totals.would_drop, totals.dropped]), exchanged.sent(), "{totals:?}");
    assert!(totals.dropped.packets > 0, "the change was in force: {totals:?}");
}

#[test]
fn another_list_is_confirmed_or_comes_back() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let (list, other) = (host.list(), host.lists.write("other.yaml", ["10.0.0.0/8", "172.16.0.0/12"]));
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    for verb in ["attach", "reload"] {
        let before = portguard.status();
        let told = portguard.ok(&[verb, IFACE, "--allowlist", &other, SHORT]);
        assert!(told.contains("+2 -1"), "{told}");
        let after = until_state(portguard, Some("rejected"));
        assert_eq!(Status { confirmation: before.confirmation.clone(), ..after }, before, "{verb}");
        host.machine.assert_tidy_with(1, &["confirm"]);
    }
    portguard.ok(&["attach", IFACE, "--allowlist", &other, LONG]);
    portguard.ok(&["confirm", IFACE]);
    let status = portguard.status();
    assert_eq!((state(&status), &status.allowlist.path), (None, &other));
    host.machine.assert_tidy(1);
}

#[test]
fn other_sizes_come_back_with_what_both_have_counted() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let first = taken_back(&testbed, &["attach", IFACE, "--sources", "512"]);
    first.assert_sealed();
    portguard.assert_counted(&first);
    // Again, and now it is confirmed: nothing is lost of any of the sets.
    let ((), more) = under_traffic(&testbed, || {
        portguard.ok(&["attach", IFACE, "--sources", "1024", LONG]);
        std::thread::sleep(Duration::from_millis(50));
        portguard.ok(&["confirm"]);
    });
    more.assert_sealed();
    let sent = sum([first.sent_denied(), more.sent_denied()]);
    let stats = portguard.stats_of(first.sent().packets + more.sent().packets);
    assert_eq!(stats.totals.dropped, sent);
    assert_eq!(stats.totals.allowed, sum([first.sent_allowed(), more.sent_allowed()]));
    // A reset ends all sets.
    let [printed] = portguard.all_stats(&["--reset"]).try_into().expect("one guard");
    assert_eq!(printed.totals.dropped, sent);
    assert_eq!(portguard.stats().packets(), 0);
    testbed.machine.assert_tidy(1);
}

#[test]
fn an_upgrade_from_abi_4_comes_back_or_is_confirmed() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach_abi4(&testbed, &["--allowlist", &testbed.list()]);
    let first = taken_back(&testbed, &["attach", IFACE]);
    first.assert_sealed();
    portguard.assert_counted(&first);
    assert_eq!(portguard.status().program.abi_version, 4);
    let ((), more) = under_traffic(&testbed, || {
        portguard.ok(&["attach", IFACE, LONG]);
        portguard.ok(&["confirm"]);
    });
    more.assert_sealed();
    let stats = portguard.stats_of(first.sent().packets + more.sent().packets);
    assert_eq!(stats.totals.dropped, sum([first.sent_denied(), more.sent_denied()]));
    assert_eq!(portguard.status().program.abi_version, portguard_common::ABI_VERSION);
    portguard.ok(&["stats", "--reset"]);
    testbed.machine.assert_tidy(1);
}

/// What is counted is read of a guard of ABI 4, too, while one of this ABI is on trial.
#[test]
fn a_guard_of_abi_4_with_a_change_on_trial_is_read_and_taken_off() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach_abi4(&testbed, &["--allowlist", &testbed.list()]);
    let ((), exchanged) = under_traffic(&testbed, || {
        portguard.ok(&["attach", IFACE, LONG]);
    });
    portguard.assert_counted(&exchanged);
    assert_eq!(portguard.ok(&["detach", IFACE]), "eth0: detached, port 111 is open\n");
    until_unwatched(&testbed);
    testbed.machine.assert_tidy(0);
}

#[test]
fn other_changes_are_refused_by_name_and_reading_works() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let list = write_longer(&testbed);
    portguard.ok(&["reload", LONG]);
    let before = portguard.status();
    let ((), exchanged) = under_traffic(&testbed, || {
        for refused in [
            &["reload"][..],
            &["reload", IFACE, SHORT],
            &["attach", IFACE],
            &["attach", IFACE, "--audit", SHORT],
            &["attach", IFACE, "--allowlist", &list],
            &["attach", IFACE, "--sources", "512"],
            &["stats", "--reset"],
        ] {
            let told = portguard.run(refused);
            assert_eq!(told.code, 1, "{refused:?}: {told:?}");
            let expected = "eth0: a change waits for its confirmation until ";
            assert!(told.stderr.contains(expected), "{refused:?}: {told:?}");
            assert!(told.stderr.contains("portguard confirm eth0"), "{refused:?}: {told:?}");
            assert_eq!(portguard.status(), before, "{refused:?}");
        }
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    assert!(portguard.ok(&["explain", "10.9.0.1"]).contains("10.9.0.0/16"), "the list on trial judges");
    portguard.ok(&["report", "--json"]);
    portguard.ok(&["reload", "--dry-run"]);
    portguard.ok(&["confirm"]);
    portguard.ok(&["stats", "--reset"]);
    testbed.machine.assert_tidy(1);
}

#[test]
fn detach_ends_a_change_that_waits() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    write_longer(&testbed);
    let portguard = testbed.portguard();
    for change in [&["reload", LONG][..], &["attach", IFACE, "--sources", "512", LONG]] {
        portguard.ok(change);
        assert_eq!(portguard.ok(&["detach", IFACE]), "eth0: detached, port 111 is open\n");
        until_unwatched(&testbed);
        testbed.machine.assert_tidy(0);
        testbed.attach();
        testbed.machine.assert_tidy(1);
    }
}

#[test]
fn what_was_rejected_is_put_in_force_by_those_who_ask_for_it_only() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let before = portguard.status();
    write_longer(&testbed);
    portguard.ok(&["reload", SHORT]);
    assert_restored(&testbed, &before);
    // It names something else.
    let told = portguard.run(&["attach", IFACE, "--audit"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.stderr.contains("has the change that was not confirmed; the list in force remains"),
        "{told:?}"
    );
    let status = portguard.status();
    assert_eq!(
        (status.enforcing, status.allowlist.prefixes_v4, state(&status)),
        (false, 1, Some("rejected"))
    );
    portguard.ok(&["reload"]);
    let status = portguard.status();
    assert_eq!((status.allowlist.prefixes_v4, state(&status)), (2, None));
    testbed.machine.assert_tidy(1);
}

#[test]
fn a_list_on_trial_is_no_last_good_list() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let kept = || {
        let copies = std::fs::read_dir(host.machine.state()).expect("the state directory").flatten();
        let copy = copies.filter(|entry| entry.path().is_file()).map(|entry| entry.path()).next();
        std::fs::read_to_string(copy.expect("a copy")).expect("a copy")
    };
    let good = kept();
    let text = std::fs::read_to_string(host.lists.write("allowlist.yaml", ["10.0.0.0/8"])).expect("the list");
    portguard.ok(&["reload", LONG]);
    assert_eq!(kept(), good, "not confirmed");
    portguard.ok(&["confirm"]);
    assert_eq!(kept(), text, "confirmed");
    assert_ne!(good, text);
}
