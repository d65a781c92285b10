//! Changes on trial that a service has made, restores and keeps.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::{LONG, SHORT, assert_restored, guardians, guardians_in, state, until_state, write_longer};
use crate::support::{IFACE, PORTGUARD, Service, SingleHost, Testbed};

/// A list that has lost a family: a service does not load it on its own, so it is for those who ask to try it.
fn write_without_v6(testbed: &Testbed) {
    testbed.lists.write("allowlist.yaml", ["192.0.2.0/24", "10.0.0.0/8"]);
}

#[test]
fn a_service_restores_at_the_deadline() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let before = portguard.status();
    write_without_v6(&testbed);
    service.until_said("has no IPv6 entry any more");
    let told = {
        let told = portguard.ok(&["reload", "--allow-empty", "--confirm=2"]);
        assert!(told.contains("unless you run: portguard confirm eth0"), "{told}");
        let status = portguard.status();
        assert_eq!((state(&status), status.allowlist.prefixes_v6), (Some("pending"), 0));
        assert_eq!(guardians(&testbed), [], "the service restores");
        until_state(portguard, Some("rejected"))
    };
    assert_eq!(told.allowlist.prefixes_v6, 1);
    assert_restored(&testbed, &before);
    service.until_said("the change was not confirmed");
    let refusals = |said: &str| said.matches("has no IPv6 entry any more").count();
    let refused = refusals(&service.said());
    // It keeps silent about what was rejected; and starts with the list in force.
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    assert_eq!(refusals(&service.said()), refused);
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert_eq!(portguard.status().allowlist.sha256, before.allowlist.sha256);
    drop(service);
    testbed.machine.assert_tidy_with(1, &["confirm"]);
}

/// What was before cannot be restored, since somebody has removed its pins. The service tries again twice a second.
#[test]
fn a_service_that_cannot_restore_says_so_once() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let directory = PathBuf::from(portguard.status().pinned).parent().expect("of the interface").to_owned();
    let instances = || {
        let is_instance =
            |path: &PathBuf| path.file_name().is_some_and(|it| it.as_bytes().starts_with(b"abi"));
        let paths = directory.read_dir()?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(is_instance).collect::<Vec<_>>())
    };
    let before = testbed.machine.mounts().run(instances).expect("an instance");
    portguard.ok(&["reload", SHORT]);
    let remove = || Ok(before.iter().try_for_each(fs::remove_dir_all)?);
    testbed.machine.mounts().run(remove).expect("removing it");
    until_state(portguard, Some("overdue"));
    std::thread::sleep(Duration::from_secs(3));
    let said = service.said();
    let errors: Vec<&str> = said.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{said}");
}

#[test]
fn what_was_rejected_is_not_loaded_by_a_service_until_it_changes_or_is_asked_for() {
    for asked in [true, false] {
        let testbed = Testbed::new(PORTGUARD);
        testbed.attach();
        let portguard = testbed.portguard();
        let before = portguard.status();
        let list = write_longer(&testbed);
        portguard.ok(&["reload", SHORT]);
        assert_restored(&testbed, &before);

        // Not when it starts, and not when the file is written again with the same content.
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        let rejected = |when: &str| {
            let status = portguard.status();
            assert_eq!((state(&status), status.allowlist.prefixes_v4), (Some("rejected"), 1), "{when}");
        };
        rejected("at the start");
        assert!(service.said().contains("has the change that was not confirmed"), "{}", service.said());
        assert!(service.until("STATUS=").contains("rejected: not confirmed"));
        write_longer(&testbed);
        service.until("STATUS=");
        rejected("written again");
        if asked {
            portguard.ok(&["reload"]);
            assert_eq!(portguard.status().allowlist.prefixes_v4, 2);
        } else {
            testbed
                .lists
                .write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48", "10.0.0.0/8", "172.16.0.0/12"]);
            service.wait_until("other content", || portguard.status().allowlist.prefixes_v4 == 3);
        }
        until_state(portguard, None);
        // Whose work is done when it has ended.
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
        testbed.machine.assert_tidy(1);
    }
}

#[test]
fn content_that_was_rejected_is_loaded_when_it_changes() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    // The content in force is on trial, and another one comes meanwhile: it has to wait.
    portguard.ok(&["reload", "--confirm=2"]);
    assert_eq!(state(&portguard.status()), Some("pending"));
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "10.0.0.0/8"]);
    service.until_said("the service reads it again when no change waits for its confirmation");
    let status = portguard.status();
    assert_eq!((state(&status), status.allowlist.prefixes_v4), (Some("pending"), 1));
    service.wait_until("the new content", || portguard.status().allowlist.prefixes_v4 == 2);
    until_state(portguard, None);
    drop(service);
    host.machine.assert_tidy(1);
}

#[test]
fn a_service_confirms_and_reads_what_came_meanwhile() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    portguard.ok(&["reload", LONG]);
    service.until("STATUS=");
    let told = portguard.run(&["reload"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("a change waits for its confirmation until "), "{told:?}");
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "10.0.0.0/8"]);
    service.until_said("the service reads it again when no change waits for its confirmation");
    assert_eq!(portguard.ok(&["confirm"]), "eth0: confirmed\n");
    service.wait_until("the new content", || portguard.status().allowlist.prefixes_v4 == 2);
    assert_eq!(state(&portguard.status()), None);
    let told = portguard.fails(1, &["attach", IFACE, SHORT]);
    assert!(told.contains("owns the order of the guard"), "{told}");
    assert_eq!(guardians_in(&host.namespace), []);
    drop(service);
    host.machine.assert_tidy(1);
}

#[test]
fn a_service_that_was_killed_restores_when_it_starts_again() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let before = portguard.status();
    portguard.ok(&["reload", SHORT]);
    service.signal(Signal::SIGKILL);
    assert!(!service.ended().success());
    until_state(portguard, Some("overdue"));
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let status = portguard.status();
    assert_ne!(state(&status), Some("overdue"), "{}", service.said());
    assert_eq!(status.allowlist.sha256, before.allowlist.sha256);
    drop(service);
}

/// Its own change, which its predecessor has made: it keeps the guard, and nothing is changed until the change is confirmed.
#[test]
fn a_service_that_starts_while_a_change_waits_leaves_it_alone() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let list = write_longer(&testbed);
    portguard.ok(&["reload", LONG]);
    let before = portguard.status();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list, "--audit"]);
    let after = portguard.status();
    assert_eq!(
        (after.program.id, after.generation, after.enforcing, &after.allowlist),
        (before.program.id, before.generation, true, &before.allowlist)
    );
    assert!(service.said().contains("a change waits for its confirmation until "), "{}", service.said());
    portguard.ok(&["confirm"]);
    // And then its order holds.
    service.wait_until("audit mode", || !portguard.status().enforcing);
    assert_eq!(state(&portguard.status()), None);
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    testbed.machine.assert_tidy(1);
}
