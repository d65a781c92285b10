//! A guard that is attached again: a new program on the old counters, without a gap.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use portguard_testkit::net::run;

use crate::support::{IFACE, PORTGUARD, SingleHost, Testbed, Traffic, Until};

#[test]
fn upgrades_in_place_neither_leak_nor_lose_and_keep_the_counters() {
    const UPGRADES: u64 = 20;
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let first = portguard.status();
    let list = testbed.list();

    let mut programs = BTreeSet::from([first.program.id]);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for upgrade in 1..=UPGRADES {
            let told = portguard.ok(&["attach", IFACE, "--allowlist", &list]);
            assert_eq!(told, "eth0: renewed in place, enforcing, 2 entries, counters kept\n");
            let status = portguard.status();
            assert_eq!(status.generation, 1 + upgrade);
            assert!(programs.insert(status.program.id), "program {} is not new", status.program.id);
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    let stats = portguard.assert_counted(&exchanged);
    assert!(stats.sources.iter().all(|source| source.first_seen <= source.last_seen));

    let last = portguard.status();
    assert_eq!(
        (&last.pinned, &last.attached_at, &last.mode),
        (&first.pinned, &first.attached_at, &first.mode)
    );
    testbed.machine.assert_tidy(1);
}

#[test]
fn the_link_is_the_same_one() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    let before = host.machine.link(&portguard.status().pinned);
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    portguard.ok(&["stats", "--reset"]);
    let after = host.machine.link(&portguard.status().pinned);
    assert_eq!(before.id, after.id);
    assert_ne!(before.program, after.program);
    assert_eq!(after.program, portguard.status().program.id);
}

#[test]
fn audit_lets_through_and_counts_and_then_no_more() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let told = portguard.ok(&["attach", IFACE, "--allowlist", &list, "--audit"]);
    assert_eq!(told, "eth0: attached in native mode, audit only, nothing is dropped, 2 entries\n");
    assert!(!portguard.status().enforcing);

    let pause = Duration::from_millis(50);
    let run = || {
        thread::scope(|scope| {
            let traffic = Traffic::start(scope, &testbed);
            thread::sleep(pause);
            traffic.end()
        })
    };
    let audited = run();
    for (source, sent) in audited.denied() {
        assert_eq!(audited.heard(source), sent.packets, "{source} is let through");
    }
    let stats = portguard.assert_counted(&audited);
    assert!(!stats.enforcing);
    assert_eq!(stats.totals.would_drop, audited.sent_denied());
    assert_eq!(stats.totals.dropped.packets, 0);

    let told = portguard.ok(&["attach", IFACE, "--enforce"]);
    assert_eq!(told, "eth0: renewed in place, enforcing, 2 entries, counters kept\n  audit -> enforcing\n");
    let enforced = run();
    enforced.assert_sealed();
    let stats = portguard.stats_of(audited.sent().packets + enforced.sent().packets);
    assert!(stats.enforcing);
    assert_eq!(stats.totals.would_drop, audited.sent_denied());
    assert_eq!(stats.totals.dropped, enforced.sent_denied());
    for (source, sent) in enforced.denied() {
        let (_, earlier) = audited.denied().find(|(other, _)| *other == source).expect("the same two");
        assert_eq!(stats.by_source()[&source].since(earlier), sent, "{source}");
    }

    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--audit"]);
    assert!(!portguard.status().enforcing, "and back again");
}

#[test]
fn a_broken_list_upgrades_nothing() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let before = portguard.status();
    let broken = host.lists.write_text("broken.yaml", "allow:\n  - 192.0.2.0/33\n");
    let told = portguard.fails(3, &["attach", IFACE, "--allowlist", &broken, "--audit"]);
    assert!(told.contains("broken.yaml:2:5"), "{told}");
    assert_eq!(portguard.status(), before);
}

/// Those who only look must not be told of what is half done.
#[test]
fn status_and_stats_are_whole_while_the_guard_is_renewed() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    thread::scope(|scope| {
        let renewing = Until::default();
        let looks = [0, 1].map(|look| {
            let over = renewing.over();
            scope.spawn(move || {
                let mut looks = 0;
                while !over.is_over() {
                    match look {
                        0 => assert_eq!(portguard.status().interface, IFACE),
                        _ => assert_eq!(portguard.stats().interface, IFACE),
                    }
                    looks += 1;
                }
                looks
            })
        });
        for _ in 0..10 {
            portguard.ok(&["attach", IFACE, "--allowlist", &list]);
            portguard.ok(&["reload"]);
            portguard.ok(&["stats", "--reset"]);
        }
        drop(renewing);
        for look in looks {
            assert!(look.join().expect("looking does not fail") > 10);
        }
    });
}

/// An older or a newer portguard, as far as this one can tell: by the name of the directory, before it looks at a map.
#[test]
fn old_lists_that_a_killed_upgrade_has_left_pinned_go_with_the_next_change() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let attach = ["attach", IFACE, "--allowlist", &host.list()];
    portguard.ok(&attach);
    let pinned = portguard.status().pinned;
    let directory = Path::new(&pinned).parent().expect("the directory of the interface");
    for family in ["v4", "v6"] {
        let mut bpftool = host.machine.command(&host.namespace, "bpftool");
        bpftool.args(["map", "create"]).arg(directory.join(format!("list1-{family}")));
        run(bpftool.args(["type", "array", "key", "4", "value", "4", "entries", "1", "name", "list"]))
            .expect("bpftool");
    }
    portguard.ok(&attach);
    host.machine.assert_tidy(1);
}

#[test]
fn a_guard_with_an_unknown_layout_is_refused_by_name_and_goes_on() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let before = portguard.status();
    let list = testbed.list();
    let rename = |from: &str, to: &str| {
        let directory =
            Path::new(&before.pinned).parent().expect("the directory of the interface").to_owned();
        testbed
            .machine
            .mounts()
            .run(|| Ok(fs::rename(directory.join(from), directory.join(to))?))
            .expect("renaming");
    };
    let (known, unknown) = (format!("abi{}-1", before.program.abi_version), "abi4242-1");
    rename(&known, unknown);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for arguments in [
            &["status"][..],
            &["stats"],
            &["stats", "--reset"],
            &["reload"],
            &["attach", IFACE, "--allowlist", &list],
            &["run", IFACE, "--allowlist", &list],
        ] {
            let output = portguard.run(arguments);
            assert_eq!(output.code, 1, "{arguments:?}: {output:?}");
            assert!(output.stderr.contains("guarded by a portguard with ABI version 4242"), "{output:?}");
            assert!(output.stderr.contains("That guard remains active."), "{output:?}");
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    rename(unknown, &known);
    assert_eq!(portguard.status(), before, "untouched");
    portguard.assert_counted(&exchanged);
    // To take it off does not take knowing what is in it.
    rename(&known, unknown);
    assert_eq!(portguard.ok(&["detach", IFACE]), "eth0: detached, port 111 is open\n");
    testbed.machine.assert_tidy(0);
}
