//! How the service starts, is told to do things, and ends.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{IFACE, PORTGUARD, Service, SingleHost, Testbed, Traffic, program_on};

#[test]
fn the_service_attaches_reloads_and_stops_and_the_guard_goes_on() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert_eq!(service.until("STATUS="), "eth0: generation 1, 0 allowed, 0 dropped");
    let first = portguard.status();
    assert_eq!((first.generation, first.enforcing), (1, true));

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        service.signal(Signal::SIGHUP);
        service.until("RELOADING=1");
        let stamp: u64 = service.until("MONOTONIC_USEC=").parse().expect("microseconds");
        assert!(stamp > 0);
        service.until("READY=1");
        assert!(service.until("STATUS=").starts_with("eth0: generation 2, "));
        assert_eq!(portguard.status().generation, 2, "asked for, and done, although the file is the same");

        service.signal(Signal::SIGTERM);
        service.until("STOPPING=1");
        assert!(service.ended().success());
        // And again, over the guard that is there.
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        assert!(service.said().contains("eth0: renewed in place, enforcing, 2 entries, counters kept"));
        service.signal(Signal::SIGKILL);
        assert!(!service.ended().success());
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        service.signal(Signal::SIGINT);
        assert!(service.ended().success());
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let last = portguard.status();
    assert_eq!((last.attached_at, last.generation), (first.attached_at, 4));
    testbed.machine.assert_tidy(1);
}

#[test]
fn a_guard_that_a_service_keeps_is_not_taken_off() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let guard = portguard.status();
    for arguments in [&["detach", IFACE][..], &["detach", "--all"]] {
        let told = portguard.fails(1, arguments);
        assert!(told.contains("a portguard service keeps the guard on"), "{told}");
    }
    assert_eq!(portguard.status(), guard);
    // Everything else may meet it.
    portguard.ok(&["reload"]);
    portguard.ok(&["stats", "--reset"]);
    assert!(
        portguard.run(&["detach", IFACE]).stderr.contains("a portguard service keeps"),
        "it is the same guard"
    );
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    portguard.ok(&["detach", IFACE]);
    assert_eq!(program_on(&host.namespace, IFACE), None);
}

#[test]
fn the_watchdog_hears_of_it_and_the_status_line_tells_the_totals() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service =
        Service::spawn_with(portguard, &[IFACE, "--allowlist", &list], &[("WATCHDOG_USEC", "200000")]);
    service.until("READY=1");
    for _ in 0..5 {
        service.until("WATCHDOG=1");
    }
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(20));
        traffic.end()
    });
    portguard.assert_counted(&exchanged);
    service.signal(Signal::SIGHUP);
    service.until("READY=1");
    let (allowed, denied) = (exchanged.sent_allowed().packets, exchanged.sent_denied().packets);
    let line = format!("eth0: generation 2, {allowed} allowed, {denied} dropped");
    assert_eq!(service.until("STATUS="), line);
}

#[test]
fn what_attach_refuses_run_refuses_in_the_same_words() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let broken = host.lists.write_text("broken.yaml", "allow:\n  - 192.0.2.0/33\n");
    let told = portguard.fails(3, &["run", IFACE, "--allowlist", &broken]);
    assert!(told.contains("broken.yaml:2:5"), "{told}");
    assert!(told.contains("eth0: there is no list to guard with"), "{told}");
    assert_eq!(program_on(&host.namespace, IFACE), None);
    let told = portguard.fails(3, &["run", "eth7", "--allowlist", &broken]);
    assert!(told.contains("there is no list to guard with"), "{told}");
    for arguments in [&["lo"][..], &[IFACE, "--mode", "offload"]] {
        let tail = ["--allowlist", &list];
        let attach = portguard.run(&[&["attach"], arguments, &tail].concat());
        let run = portguard.run(&[&["run"], arguments, &tail].concat());
        assert_eq!((run.code, run.stderr), (attach.code, attach.stderr));
        assert_ne!(run.code, 0);
    }
    for name in ["", "a b", "eth0/1", ".."] {
        let told = portguard.fails(4, &["run", name, "--allowlist", &list]);
        assert!(told.contains("no interface can have this name"), "{told}");
    }
    // The other one is guarded all the same.
    let told = portguard.fails(1, &["run", "lo", IFACE, "--allowlist", &list]);
    assert!(told.contains("lo: "), "{told}");
    assert_eq!(portguard.status().interface, IFACE);
}

#[test]
fn in_audit_mode_nothing_is_dropped_and_the_line_says_so() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let mut service = Service::start(portguard, &[IFACE, "--audit", "--allowlist", &host.list()]);
    assert_eq!(service.until("STATUS="), "eth0: generation 1, 0 allowed, audit only, 0 would be dropped");
    assert!(!portguard.status().enforcing);
}

#[test]
fn one_service_keeps_an_interface_and_the_others_are_refused() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut first = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let before = portguard.status();
    for more in [&[][..], &["--audit"], &["--mode", "generic"]] {
        let told = portguard.fails(1, &[&["run", IFACE, "--allowlist", &list], more].concat());
        assert!(told.contains("eth0: another service keeps the guard"), "{told}");
    }
    assert_eq!(portguard.status(), before, "untouched");
    first.signal(Signal::SIGTERM);
    assert!(first.ended().success());
    // The next one may have it then.
    let mut next = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    next.signal(Signal::SIGTERM);
    assert!(next.ended().success());
    host.machine.assert_tidy(1);
}

#[test]
fn a_systemd_that_does_not_listen_does_not_hold_the_service_up() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    // Its socket takes ten messages (`net.unix.max_dgram_qlen`); nobody reads them here.
    for round in 0..30 {
        service.signal(Signal::SIGHUP);
        service.wait_until("it has reloaded", || portguard.status().generation == round + 2);
    }
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
}
