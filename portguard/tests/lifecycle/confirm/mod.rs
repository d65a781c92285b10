//! `--confirm`: a change that nobody confirms is taken back, whatever becomes of those who could confirm it.

mod changes;
mod ends;
mod kills;
mod services;

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portguard_testkit::net::{Namespace, wait_until};

use crate::support::{IFACE, PATIENCE, Portguard, Status, Testbed, program_on};

/// A deadline that a test waits for.
const SHORT: &str = "--confirm=1";
/// One that does not pass while a test runs.
const LONG: &str = "--confirm=600";

/// What the last change with `--confirm` waits for, as `status` tells.
fn state(status: &Status) -> Option<&str> {
    status.confirmation.as_ref().map(|confirmation| confirmation.state.as_str())
}

/// Waits until the only guard tells this of the last change with `--confirm`.
#[track_caller]
fn until_state(portguard: Portguard<'_>, expected: Option<&str>) -> Status {
    let mut status = portguard.status();
    let reached = wait_until("another state", PATIENCE, || {
        status = portguard.status();
        Ok(state(&status) == expected)
    });
    assert!(reached.is_ok(), "{expected:?} was expected: {status:?}");
    // It is told as soon as the link says so. Who restores or confirms holds the lock until all is removed, and this waits
    // for the lock.
    portguard.run(&["explain", "192.0.2.10"]);
    status
}

/// Asserts that all is as before a change, which was not confirmed, and nothing is left of it.
#[track_caller]
fn assert_restored(testbed: &Testbed, before: &Status) {
    let after = until_state(testbed.portguard(), Some("rejected"));
    assert_eq!(
        Status { confirmation: before.confirmation.clone(), ..after.clone() },
        on_disk_of(before, &after)
    );
    assert_eq!(program_on(testbed.server.namespace(), IFACE), Some(before.program.id));
    testbed.machine.assert_tidy_with(1, &["confirm"]);
}

/// A status with what another one tells of the file: that keeps its new text.
fn on_disk_of(status: &Status, other: &Status) -> Status {
    let mut status = status.clone();
    status.allowlist.file = other.allowlist.file.clone();
    status.allowlist.changed_on_disk = other.allowlist.changed_on_disk;
    status
}

/// Writes a list that has one prefix more than the one of the testbed, and allows the same.
fn write_longer(testbed: &Testbed) -> String {
    testbed.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48", "10.9.0.0/16"])
}

/// The guardians that watch over changes in a network namespace.
fn guardians_in(namespace: &Namespace) -> Vec<Pid> {
    let namespace = namespace.run(|| fs::read_link("/proc/thread-self/ns/net")).expect("a network namespace");
    let is_guardian = |pid: &Pid| {
        let process = format!("/proc/{pid}");
        fs::read_link(format!("{process}/ns/net")).is_ok_and(|it| it == namespace)
            && fs::read(format!("{process}/cmdline"))
                .is_ok_and(|it| it.split(|byte| *byte == 0).nth(1) == Some(b"guardian"))
    };
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(is_guardian).collect()
}

/// The same, of a testbed.
fn guardians(testbed: &Testbed) -> Vec<Pid> {
    guardians_in(testbed.server.namespace())
}

/// Kills the guardian of the only change, so that nobody restores what was before it.
#[track_caller]
pub(crate) fn kill_guardian(testbed: &Testbed) {
    let [guardian] = guardians(testbed)[..] else { panic!("one guardian: {:?}", guardians(testbed)) };
    kill(guardian, Signal::SIGKILL).expect("a guardian");
    wait_until("its end", PATIENCE, || Ok(guardians(testbed).is_empty())).expect("its end");
}

/// Waits until no guardian watches any more.
#[track_caller]
fn until_unwatched(testbed: &Testbed) {
    wait_until("the end of the guardian", PATIENCE, || Ok(guardians(testbed).is_empty())).expect("its end");
}
