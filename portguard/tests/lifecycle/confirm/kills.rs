//! Whoever makes, restores or confirms a change on trial is killed at its system calls.

use portguard_testkit::net::wait_until;

use super::{LONG, guardians, kill_guardian, state, until_state, until_unwatched, write_longer};
use crate::support::{
    IFACE, PATIENCE, PORTGUARD, Status, Testbed, Traced, chosen, program_on, run_to, system_calls,
    system_calls_until, under_traffic,
};

/// How many kills the short form spreads over a command.
const SAMPLE: u64 = 16;

/// Asserts that `status` tells what the kernel says.
#[track_caller]
fn assert_whole(testbed: &Testbed, at: u64) -> Status {
    let status = testbed.portguard().status();
    assert_eq!(
        program_on(testbed.server.namespace(), IFACE),
        Some(status.program.id),
        "at call {at}: {status:?}"
    );
    status
}

/// A list of two IPv4 prefixes is on trial, or what was before: one.
#[track_caller]
fn assert_one_or_the_other(status: &Status, at: u64) {
    match status.allowlist.prefixes_v4 {
        1 => assert_ne!(state(status), Some("pending"), "at call {at}: {status:?}"),
        2 => assert_ne!(state(status), Some("rejected"), "at call {at}: {status:?}"),
        _ => panic!("at call {at}: {status:?}"),
    }
}

/// Puts the list of before in force again, whatever has become of the longer one.
fn begin_anew(testbed: &Testbed) {
    let portguard = testbed.portguard();
    if state(&portguard.status()) == Some("pending") {
        portguard.ok(&["confirm"]);
    }
    portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list()]);
    testbed.machine.assert_tidy(1);
    write_longer(testbed);
}

#[test]
fn a_change_on_trial_that_is_killed_at_any_call_is_restored_or_was_never_made() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    write_longer(&testbed);
    let portguard = testbed.portguard();
    let command = ["attach", IFACE, "--confirm=1"];
    let calls = system_calls(&mut portguard.command(command));
    let (mut killed, mut made) = (0, 0);
    let ((), exchanged) = under_traffic(&testbed, || {
        wait_until("the first one is taken back", PATIENCE, || Ok(guardians(&testbed).is_empty()))
            .expect("an end");
        for call in chosen(calls.clone(), SAMPLE) {
            begin_anew(&testbed);
            let traced = run_to(&mut portguard.command(command), call);
            killed += u64::from(traced == Traced::Killed);
            let status = assert_whole(&testbed, call);
            assert_one_or_the_other(&status, call);
            made += u64::from(status.allowlist.prefixes_v4 == 2);
            // The guardian, if there is one, sees to it.
            until_unwatched(&testbed);
            let status = assert_whole(&testbed, call);
            assert_eq!(status.allowlist.prefixes_v4, 1, "at call {call}: {status:?}");
            assert_ne!(state(&status), Some("overdue"), "at call {call}");
        }
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    assert!(killed > 0 && made > 0, "{killed} {made}");
}

#[test]
fn a_confirmation_that_is_killed_at_any_call_leaves_the_change_confirmed_or_waiting() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    write_longer(&testbed);
    let portguard = testbed.portguard();
    portguard.ok(&["reload", LONG]);
    let calls = system_calls(&mut portguard.command(["confirm"]));
    let (mut waiting, mut confirmed) = (0, 0);
    let ((), exchanged) = under_traffic(&testbed, || {
        for call in chosen(calls.clone(), SAMPLE) {
            begin_anew(&testbed);
            portguard.ok(&["reload", LONG]);
            run_to(&mut portguard.command(["confirm"]), call);
            let status = assert_whole(&testbed, call);
            assert_eq!(status.allowlist.prefixes_v4, 2, "at call {call}: {status:?}");
            match state(&status) {
                Some("pending") => waiting += 1,
                None => confirmed += 1,
                other => panic!("{other:?} at call {call}"),
            }
        }
        begin_anew(&testbed);
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    assert!(waiting > 0 && confirmed > 0, "{waiting} {confirmed}");
}

/// The next command restores what is overdue; it is killed at its calls, and the one after it does the rest.
fn kill_restorations(change: &[&str]) {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    // It fails after it has restored: nothing is left to confirm.
    let restore = ["confirm", IFACE];
    let begin = || {
        portguard.ok(change);
        kill_guardian(&testbed);
        until_state(portguard, Some("overdue"));
    };
    testbed.attach();
    begin();
    let calls = system_calls_until(&mut portguard.command(restore), 1);
    let (mut new, mut old) = (0, 0);
    for call in chosen(calls.clone(), SAMPLE) {
        portguard.ok(&["detach", IFACE]);
        testbed.attach();
        let before = portguard.status();
        let ((), exchanged) = under_traffic(&testbed, || {
            begin();
            run_to(&mut portguard.command(restore), call);
            let status = assert_whole(&testbed, call);
            match state(&status) {
                Some("overdue") => new += 1,
                Some("rejected") => {
                    old += 1;
                    assert_eq!(status.program.id, before.program.id, "at call {call}");
                }
                other => panic!("{other:?} at call {call}"),
            }
            let output = portguard.run(&restore);
            assert_eq!(output.code, 1, "at call {call}: {output:?}");
        });
        let status = assert_whole(&testbed, call);
        assert_eq!((state(&status), status.program.id), (Some("rejected"), before.program.id), "{call}");
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        portguard.ok(&["stats", "--reset"]);
        testbed.machine.assert_tidy_with(1, &["confirm"]);
    }
    assert!(new > 0 && old > 0, "{new} {old}");
}

#[test]
fn a_restoration_that_is_killed_at_any_call_is_brought_to_its_end_by_the_next_one() {
    kill_restorations(&["attach", IFACE, "--confirm=1"]);
}

#[test]
fn a_restoration_that_is_killed_at_any_call_keeps_the_counters_of_the_trial() {
    kill_restorations(&["attach", IFACE, "--sources", "512", "--confirm=1"]);
}
