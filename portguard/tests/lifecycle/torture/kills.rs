//! Loaders that are killed before each of their system calls: between two of them nothing changes outside a process, so
//! these are all the states that a killed loader can leave behind.

use std::thread;
use std::time::Duration;

use portguard_testkit::figures::Figures;

use super::{SAMPLE, TIDY, account, assert_guarded, guard_on, testbed};
use crate::support::{IFACE, Testbed, Traced, Traffic, chosen, is_long, run_to, system_calls};

/// Kills a command at each of its calls, on a guarded interface. Returns how often.
fn kill_everywhere(testbed: &Testbed, arguments: &[&str]) -> u64 {
    let portguard = testbed.portguard();
    let calls = system_calls(&mut portguard.command(arguments));
    let mut kills = 0;
    for call in chosen(calls.clone(), SAMPLE) {
        // What the last kill has left makes the next command longer, and this one would be killed too early.
        portguard.ok(arguments);
        match run_to(&mut portguard.command(arguments), call) {
            Traced::Killed => kills += 1,
            // One call more or less: what it finds differs from time to time.
            Traced::Ended(code) => assert_eq!(code, 0, "portguard {} at call {call}", arguments.join(" ")),
        }
        let status = assert_guarded(testbed, &format!("killed at call {call} of {}", calls.end));
        assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (1, 1));
        if kills % TIDY == 0 {
            portguard.ok(arguments);
            testbed.machine.assert_tidy(1);
        }
    }
    portguard.ok(arguments);
    testbed.machine.assert_tidy(1);
    assert_eq!(testbed.machine.earlier_sets(), 0);
    assert!(kills > 0, "none was killed");
    kills
}

#[test]
fn a_loader_that_is_killed_at_any_call_of_an_upgrade_or_a_reload_leaves_the_guard_whole() {
    let testbed = testbed();
    testbed.attach();
    let list = testbed.list();
    let mut counted = (0, 0, 0);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        counted.0 = kill_everywhere(&testbed, &["attach", IFACE, "--allowlist", &list]);
        counted.1 = kill_everywhere(&testbed, &["reload"]);
        // This one sets the counters to zero; killed, it may have done so or not. It is not counted with the others.
        traffic.end()
    });
    let figures = Figures::of("upgrade and reload")
        .with("kills in an upgrade", counted.0)
        .with("kills in a reload", counted.1);
    println!("{}", account(&testbed, &exchanged, figures));
    // Resets begin to count anew, so they are for packets, not for sums.
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        counted.2 = kill_everywhere(&testbed, &["stats", "--reset"]);
        traffic.end()
    });
    exchanged.assert_sealed();
    let figures = Figures::of("reset")
        .with("kills in a reset", counted.2)
        .with("denied packets sent", exchanged.sent_denied().packets)
        .with("of them delivered", 0)
        .with("allowed packets sent", exchanged.sent_allowed().packets)
        .with("of them lost", 0);
    println!("{figures}");
}

#[test]
fn a_loader_that_is_killed_at_any_call_of_an_attachment_leaves_a_guard_or_none() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let arguments = ["attach", IFACE, "--allowlist", &list];
    portguard.ok(&arguments);
    portguard.ok(&["detach", IFACE]);
    // The first takes longer than those that find a guard; each makes one, so it is taken off again.
    let mut call = 0;
    let (mut none, mut some, mut denied) = (0, 0, 0);
    // One makes a few calls more or less than another. The long form goes on until some in a row have ended before they were killed.
    let (stride, in_a_row) = if is_long() { (1, 20) } else { (97, 1) };
    let (mut ended, mut ended_in_a_row) = (0, 0);
    loop {
        let traced = run_to(&mut portguard.command(arguments), call);
        let guards = portguard.all_status();
        let there: Vec<u32> = guards.iter().map(|status| status.program.id).collect();
        assert_eq!(there, Vec::from_iter(guard_on(&testbed)), "at call {call}");
        if guards.is_empty() {
            none += 1;
        } else {
            some += 1;
            let exchanged = thread::scope(|scope| {
                let traffic = Traffic::start(scope, &testbed);
                thread::sleep(Duration::from_millis(10));
                traffic.end()
            });
            exchanged.assert_sealed();
            portguard.assert_counted(&exchanged);
            denied += exchanged.sent_denied().packets;
            portguard.ok(&["detach", IFACE]);
        }
        if traced == Traced::Killed {
            ended_in_a_row = 0;
        } else {
            assert_eq!(traced, Traced::Ended(0));
            (ended, ended_in_a_row) = (ended + 1, ended_in_a_row + 1);
            if ended_in_a_row == in_a_row {
                break;
            }
        }
        // What the kill has left makes the next command longer, and that would be killed too early.
        portguard.ok(&arguments);
        testbed.machine.assert_tidy(1);
        portguard.ok(&["detach", IFACE]);
        call += stride;
    }
    assert!(none > 0 && some > 0);
    let figures = Figures::of("attachment")
        .with("kills in an attachment", none + some - ended)
        .with("left no guard", none)
        .with("left one", some - ended)
        .with("denied packets sent to those, and to those of attachments that ran to their end", denied)
        .with("of them delivered", 0);
    println!("{figures}");
}
