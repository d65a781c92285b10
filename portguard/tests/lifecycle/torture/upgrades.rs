//! Guards of earlier ABIs are upgraded to the ABI of this portguard while they work.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use portguard_common::ABI_VERSION;
use portguard_testkit::figures::Figures;
use portguard_testkit::net::{Count, Size, Terminal};

use super::{SAMPLE, assert_attached, assert_guarded};
use crate::support::{
    ABI_4, ABI_6, ABI_8, IFACE, PATIENCE, PORTGUARD, Service, Stats, Status, Testbed, Traced, attach_abi,
    attach_abi4, attach_earlier, chosen, run_to, sum, system_calls, under_traffic,
};

/// What upgrades a guard: it names nothing that the guard has an order for.
const UPGRADE: [&str; 2] = ["attach", IFACE];

/// A host with a guard of ABI 4.
fn testbed() -> Testbed {
    testbed_of(ABI_4)
}

/// A host with a guard of ABI 4, 6 or 8.
fn testbed_of(abi: u32) -> Testbed {
    let testbed = Testbed::new(PORTGUARD);
    attach_abi(&testbed, abi, &["--allowlist", &testbed.list()]);
    testbed
}

/// Asserts that a guard is one of this portguard, with the list that it had as a guard of an earlier ABI, which counts as one
/// more; and else the same one.
#[track_caller]
fn assert_upgraded(before: &Status, after: &Status) {
    assert_eq!(after.program.abi_version, ABI_VERSION);
    assert!(before.program.abi_version < ABI_VERSION, "this portguard has an ABI of its own");
    assert_eq!(after.generation, before.generation + 1);
    let list = |status: &Status| {
        let list = status.allowlist.clone();
        (list.path, list.sha256, list.prefixes_v4, list.prefixes_v6)
    };
    assert_eq!(list(after), list(before));
    assert_eq!(
        (&after.pinned, &after.mode, after.enforcing),
        (&before.pinned, &before.mode, before.enforcing)
    );
}

#[test]
fn a_guard_of_abi_4_is_upgraded_without_a_gap_and_goes_on_counting() {
    upgrade_without_a_gap(&testbed());
}

#[test]
fn a_guard_of_abi_6_is_upgraded_without_a_gap_and_goes_on_counting() {
    upgrade_without_a_gap(&testbed_of(ABI_6));
}

#[test]
fn a_guard_of_abi_8_is_upgraded_without_a_gap_and_goes_on_counting() {
    upgrade_without_a_gap(&testbed_of(ABI_8));
}

fn upgrade_without_a_gap(testbed: &Testbed) {
    let portguard = testbed.portguard();
    let before = portguard.status();
    let link = testbed.machine.link(&before.pinned).id;
    let (earlier, exchanged) = under_traffic(testbed, || {
        let earlier = portguard.stats();
        portguard.ok(&UPGRADE);
        earlier
    });
    assert!(earlier.packets() > 0, "the old maps hold something");
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let after = assert_guarded(testbed, "the upgrade");
    assert_upgraded(&before, &after);
    assert_eq!(testbed.machine.link(&after.pinned).id, link, "the link is the same one");
    testbed.machine.assert_tidy(1);

    // And from then on it is a guard like any other.
    let (told, more) = under_traffic(testbed, || portguard.ok(&["reload"]));
    assert!(told.contains("2 unchanged"), "{told}");
    more.assert_sealed();
    let stats = portguard.stats_of(exchanged.sent().packets + more.sent().packets);
    assert_eq!(stats.totals.allowed, sum([exchanged.sent_allowed(), more.sent_allowed()]));
    assert_eq!(stats.totals.dropped, sum([exchanged.sent_denied(), more.sent_denied()]));
    testbed.machine.assert_tidy(1);
}

/// Makes the file of the list useless, and everything that was kept of it.
fn spoil(testbed: &Testbed, fault: &str) {
    match fault {
        "gone" => fs::remove_file(testbed.lists.path("allowlist.yaml")).expect("the list"),
        _ => drop(testbed.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n")),
    }
    for copy in fs::read_dir(testbed.machine.state()).expect("the state directory") {
        let copy = copy.expect("a copy").path();
        if copy.is_file() {
            fs::remove_file(copy).expect("removing a copy");
        }
    }
}

/// The list comes from the tries in force: there is no other place left that it could come from.
#[test]
fn a_service_upgrades_a_guard_whose_file_is_broken_with_the_list_in_force() {
    for (abi, fault) in [(ABI_4, "broken"), (ABI_4, "gone"), (ABI_6, "broken")] {
        let testbed = testbed_of(abi);
        let portguard = testbed.portguard();
        let before = portguard.status();
        spoil(&testbed, fault);
        let list = testbed.lists.path("allowlist.yaml").display().to_string();
        let ((), exchanged) = under_traffic(&testbed, || {
            let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
            service.signal(Signal::SIGTERM);
            assert!(service.ended().success(), "{fault}: {}", service.said());
        });
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        assert_upgraded(&before, &assert_guarded(&testbed, fault));
        testbed.machine.assert_tidy(1);
    }
}

#[test]
fn attach_with_a_broken_file_keeps_the_list_in_force_and_says_so() {
    for fault in ["broken", "gone"] {
        let testbed = testbed();
        let portguard = testbed.portguard();
        let before = portguard.status();
        spoil(&testbed, fault);
        let (told, exchanged) = under_traffic(&testbed, || portguard.run(&UPGRADE));
        assert_eq!(told.code, 3, "{fault}: {told:?}");
        let list = testbed.lists.path("allowlist.yaml").display().to_string();
        assert!(told.stderr.contains(&list), "{fault}: {told:?}");
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        let after = assert_guarded(&testbed, fault);
        assert_eq!(after.allowlist.sha256, before.allowlist.sha256, "{fault}");
        assert_eq!((after.allowlist.prefixes_v4, after.allowlist.prefixes_v6), (1, 1), "{fault}");
        testbed.machine.assert_tidy(1);
    }
}

#[test]
fn a_guard_of_abi_4_in_audit_mode_stays_in_audit_mode() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach_abi4(&testbed, &["--audit", "--allowlist", &testbed.list()]);
    let before = portguard.status();
    assert!(!before.enforcing);
    let (told, exchanged) = under_traffic(&testbed, || portguard.ok(&UPGRADE));
    assert!(!told.contains("->"), "nothing of the order changes: {told}");
    exchanged.assert_open();
    let stats = portguard.assert_counted(&exchanged);
    assert_eq!((stats.totals.would_drop, stats.totals.dropped), (exchanged.sent_denied(), Count::default()));
    assert_upgraded(&before, &assert_attached(&testbed, "the upgrade"));
    testbed.machine.assert_tidy(1);
}

#[test]
fn a_guard_of_abi_4_is_read_and_taken_off_and_what_would_change_it_names_the_upgrade() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let ((), exchanged) = under_traffic(&testbed, || ());
    exchanged.assert_sealed();
    let stats = portguard.assert_counted(&exchanged);
    let before = portguard.status();
    assert_eq!((before.program.abi_version, before.enforcing), (ABI_4, true));
    assert!(portguard.ok(&["status"]).contains(&before.allowlist.path));
    for form in [&["stats"][..], &["stats", "--csv"], &["report", "--json"]] {
        assert!(portguard.ok(form).contains("198.51.100.20"), "{form:?}");
    }

    let top = &mut portguard.command(["top", IFACE]);
    let top = Terminal::spawn(top, Size { columns: 120, rows: 40 }).expect("a terminal");
    for packets in [stats.totals.dropped.packets, stats.totals.allowed.packets] {
        let total = format!("in total {packets} packets");
        top.until(&total, PATIENCE, |screen| screen.contains(&total)).expect("top");
    }
    drop(top);

    for refused in [&["reload"][..], &["reload", IFACE], &["explain", "192.0.2.10"]] {
        let output = portguard.run(refused);
        assert_eq!(output.code, 1, "{refused:?}: {output:?}");
        assert!(output.stderr.contains("error: "), "{refused:?}: {output:?}");
        assert!(output.stderr.contains("portguard attach eth0"), "{refused:?}: {output:?}");
        assert!(output.stderr.contains("in place"), "{refused:?}: {output:?}");
    }
    assert_eq!(portguard.status(), before, "refused, and unchanged");
    assert_eq!(portguard.stats().totals, stats.totals);

    assert_eq!(portguard.ok(&["detach", IFACE]), "eth0: detached, port 111 is open\n");
    testbed.machine.assert_tidy(0);
}

/// The times of a guard stay what they are.
#[test]
fn an_upgrade_keeps_since_when_a_guard_is_attached_and_counts() {
    let testbed = Testbed::new(PORTGUARD);
    attach_earlier(&testbed, &["--allowlist", &testbed.list()]);
    let portguard = testbed.portguard();
    let before = portguard.status();
    assert!(before.program.abi_version < ABI_VERSION, "{before:?}");
    let since = portguard.stats().since;
    let ((), exchanged) = under_traffic(&testbed, || {
        portguard.ok(&UPGRADE);
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let after = portguard.status();
    assert_eq!(after.program.abi_version, ABI_VERSION);
    for (after, before) in [(&after.attached_at, &before.attached_at), (&portguard.stats().since, &since)] {
        assert!(second_of_day(after).abs_diff(second_of_day(before)) <= 1, "{after} was {before}");
    }
    assert_eq!(after.allowlist.sha256, before.allowlist.sha256);
}

/// Of a time like `2026-11-27T02:50:57Z`. What is shown is computed from the clock of now, so it may differ by a second.
fn second_of_day(time: &str) -> u32 {
    let (_, clock) = time.split_once('T').unwrap_or_else(|| panic!("{time:?}"));
    let parts = clock.trim_end_matches('Z').split(':');
    parts.fold(0, |sum, part| sum * 60 + part.parse::<u32>().unwrap_or_else(|_| panic!("{time:?}")))
}

/// The names in the directory of the instance.
fn instance_pins(testbed: &Testbed) -> Vec<String> {
    let pins = testbed.machine.pins();
    let below = pins.iter().filter_map(|pin| pin.splitn(4, '/').nth(3));
    below.map(str::to_owned).collect()
}

#[test]
fn counters_that_an_upgrade_and_new_sizes_have_left_behind_are_added_up_until_they_are_reset() {
    let fresh = {
        let testbed = Testbed::new(PORTGUARD);
        testbed.attach();
        instance_pins(&testbed)
    };
    let testbed = testbed();
    let portguard = testbed.portguard();
    let (printed, exchanged) = under_traffic(&testbed, || {
        portguard.ok(&UPGRADE);
        // Several sets of old counters, of sizes that come back.
        for sources in ["512", "1024", "512"] {
            thread::sleep(Duration::from_millis(30));
            let earlier = portguard.stats();
            let told = portguard.ok(&["attach", IFACE, "--sources", sources]);
            assert!(told.lines().any(|line| line.ends_with(&format!(" -> {sources}"))), "{told}");
            assert!(portguard.stats().packets() >= earlier.packets(), "nothing is forgotten");
        }
        let printed: [Stats; 1] = portguard.all_stats(&["--reset"]).try_into().expect("one guard");
        printed
    });
    exchanged.assert_sealed();
    let [printed] = printed;
    let rest = portguard.stats_of(exchanged.sent().packets - printed.packets());
    assert!(rest.packets() < printed.packets(), "it began anew: {:?}", rest.totals);
    assert_eq!(sum([printed.totals.allowed, rest.totals.allowed]), exchanged.sent_allowed());
    assert_eq!(sum([printed.totals.dropped, rest.totals.dropped]), exchanged.sent_denied());
    for (source, sent) in exchanged.denied() {
        let counted = [&printed, &rest].map(|stats| stats.by_source().get(&source).copied());
        assert_eq!(sum(counted.into_iter().flatten()), sent, "{source}");
    }
    assert!(printed.since <= rest.since, "{} {}", printed.since, rest.since);
    testbed.machine.assert_tidy(1);
    assert_eq!(instance_pins(&testbed), fresh, "the old counters have gone");
}

/// What kills of the upgrade have left behind.
#[derive(Debug, Default)]
struct Left {
    kills: u64,
    old: u64,
    new: u64,
}

/// Kills an upgrade of a guard at a call from `calls`, and then upgrades it to the end. One kill for each guard: what it
/// leaves makes the next command longer, and that would be killed too early.
fn kill_upgrades(testbed: &Testbed, calls: &mut impl Iterator<Item = u64>, left: &mut Left) {
    let portguard = testbed.portguard();
    let mut counted = 0;
    for call in calls.by_ref().take(1) {
        match run_to(&mut portguard.command(UPGRADE), call) {
            Traced::Killed => left.kills += 1,
            // One call more or less: what it finds differs from time to time.
            Traced::Ended(code) => assert_eq!(code, 0, "at call {call}"),
        }
        let status = assert_guarded(testbed, &format!("killed at call {call}"));
        assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (1, 1), "{status:?}");
        let packets = portguard.stats().packets();
        assert!(packets >= counted, "at call {call}, {counted} packets became {packets}");
        counted = packets;
        if status.program.abi_version == ABI_VERSION {
            left.new += 1;
            break;
        }
        assert_eq!(status.program.abi_version, ABI_4, "killed at call {call}");
        left.old += 1;
    }
    portguard.ok(&UPGRADE);
}

#[test]
fn an_upgrade_that_is_killed_at_any_call_leaves_the_guard_whole_old_or_new() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut calls = chosen(system_calls(&mut portguard.command(UPGRADE)), SAMPLE).into_iter().peekable();
    let (mut left, mut upgrades) = (Left::default(), 0);
    let (mut denied, mut allowed) = (0, 0);
    while calls.peek().is_some() {
        portguard.ok(&["detach", IFACE]);
        attach_abi4(&testbed, &["--allowlist", &list]);
        let ((), exchanged) = under_traffic(&testbed, || kill_upgrades(&testbed, &mut calls, &mut left));
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        assert_eq!(portguard.status().program.abi_version, ABI_VERSION);
        testbed.machine.assert_tidy(1);
        upgrades += 1;
        denied += exchanged.sent_denied().packets;
        allowed += exchanged.sent_allowed().packets;
    }
    assert!(left.old > 0 && left.new > 0, "{left:?}");
    let figures = Figures::of("upgrades across ABIs")
        .with("guards of ABI 4 upgraded", upgrades)
        .with("kills in an upgrade", left.kills)
        .with("left the guard of ABI 4", left.old)
        .with("left the guard of this ABI", left.new)
        .with("denied packets sent", denied)
        .with("of them delivered", 0)
        .with("allowed packets sent", allowed)
        .with("of them lost", 0);
    println!("{figures}");
}
