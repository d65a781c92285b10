//! Interfaces that come, go, and come back while the service runs.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use portguard_testkit::net::run;

use crate::support::{IFACE, PORTGUARD, Portguard, Service, SingleHost, program_on};

/// Waits until the only guard is on an interface with this index.
#[track_caller]
fn expect(service: &Service, portguard: Portguard<'_>, ifindex: u32) {
    service.wait_until("the guard is back", || {
        portguard.all_status().iter().map(|status| status.ifindex).collect::<Vec<_>>() == [ifindex]
    });
}

#[test]
fn an_interface_that_is_made_again_is_guarded_again() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    for round in 0..5 {
        host.namespace.ip(&format!("link del {IFACE}")).expect("unplugging");
        host.plug(IFACE, "peer0");
        let ifindex = host.namespace.ifindex(IFACE).expect("its index");
        expect(&service, portguard, ifindex);
        assert_eq!(portguard.status().generation, 1, "round {round}: a new guard");
    }
    // Under the very same index.
    for _ in 0..5 {
        let lines = format!(
            "link del {IFACE}\nlink add {IFACE} index 77 type veth peer name peer0\nlink set {IFACE} up"
        );
        host.namespace.ip(&lines).expect("a cable");
        expect(&service, portguard, 77);
    }
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    host.machine.assert_tidy(1);
}

#[test]
fn a_misspelt_interface_is_told_with_the_nearest_names_and_shown_as_awaited() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    host.plug("wlan0", "peer1");
    for interfaces in [&["eht0"][..], &[IFACE, "eht0"], &["eth0@if3", "eht0"]] {
        let mut arguments = interfaces.to_vec();
        let list = host.list();
        arguments.extend(["--allowlist", &list]);
        let service = Service::start(portguard, &arguments);
        let told =
            "warning: eht0: no such interface yet; waiting for it. Is the name right? There are: eth0, ";
        assert!(service.said().contains(told), "{}", service.said());
        assert!(portguard.unguarded().iter().any(|it| it.interface == "eht0" && it.state == "waiting"));
        assert!(portguard.run(&["status"]).stdout.contains("eht0: waiting for the interface (process "));
        let doctor = portguard.run(&["doctor"]).stdout;
        let finding = "guard.waiting eht0: there is no such interface, and process ";
        assert!(
            doctor.contains(finding) && doctor.contains("If its name is wrong, change the name there"),
            "{doctor}"
        );
        // What is asked of an interface that is waited for is refused by name.
        for verb in ["attach", "detach"] {
            assert!(portguard.fails(1, &[verb, "eht0"]).contains("a service (process "));
        }
        drop(service);
        portguard.run(&["detach", "--all"]);
    }
    for verb in ["attach", "detach", "stats", "status", "reload", "report", "confirm"] {
        let told = portguard.fails(4, &[verb, "eht0"]);
        assert!(told.contains("eht0: no such interface. There are: eth0, "), "{verb}: {told}");
    }
}

#[test]
fn interfaces_are_waited_for() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let mut service = Service::start(portguard, &["wg0", IFACE, "--allowlist", &host.list()]);
    assert!(
        service
            .said()
            .contains("warning: wg0: no such interface yet; waiting for it. Is the name right? There are: ")
    );
    let line = service.until("STATUS=");
    assert_eq!(line, "wg0: waiting for the interface; eth0: generation 1, 0 allowed, 0 dropped");
    host.plug("wg0", "peer1");
    service.wait_until("both are guarded", || portguard.all_status().len() == 2);
    host.namespace.ip("link del wg0").expect("unplugging");
    service.until_said("wg0: the interface is gone, or has another name; waiting for it to come back");
    assert_eq!(portguard.status().interface, IFACE);
    host.machine.assert_tidy(2);
    host.plug("wg0", "peer1");
    service.wait_until("both are guarded again", || portguard.all_status().len() == 2);
    host.machine.assert_tidy(2);
}

#[test]
fn a_renamed_interface_keeps_its_guard_and_the_next_of_its_name_gets_one() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    let program = portguard.status().program.id;
    host.namespace.ip(&format!("link set {IFACE} name old0")).expect("renaming");
    service.until_said("eth0: the interface is gone, or has another name");
    assert_eq!(program_on(&host.namespace, "old0"), Some(program));
    host.plug(IFACE, "peer1");
    service.wait_until("both are guarded", || portguard.all_status().len() == 2);
    assert_eq!(program_on(&host.namespace, "old0"), Some(program));
    // An alternative name will do as well.
    host.namespace
        .ip(&format!("link del {IFACE}\nlink property add dev old0 altname {IFACE}"))
        .expect("a name");
    service.until_said("eth0: renewed in place");
    assert_eq!(portguard.status().interface, "old0");
}

#[test]
fn a_guard_that_somebody_takes_off_is_put_back() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    let before = portguard.status();

    // Its link is detached. The kernel tells nobody; the next event on any interface, or the next look, finds it.
    let mut detach = Command::new("bpftool");
    run(host.machine.mounts().enter(detach.args(["link", "detach", "pinned", &before.pinned])))
        .expect("bpftool");
    assert_eq!(program_on(&host.namespace, IFACE), None);
    service.wait_until("the guard is back", || portguard.all_status().len() == 1);
    service.until_said("warning: eth0: the guard was taken off");

    // Its pin is removed: with the pin, the link goes.
    let pinned = portguard.status().pinned;
    host.machine.mounts().run(|| Ok(fs::remove_file(&pinned)?)).expect("removing the pin");
    host.namespace.ip("link set peer0 mtu 1400").expect("an event");
    service.wait_until("the guard is back", || portguard.all_status().len() == 1);
    assert_ne!(portguard.status().program.id, before.program.id);
    host.machine.assert_tidy(1);
}

#[test]
fn an_interface_that_comes_with_another_program_is_told_of_and_guarded_when_that_goes() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let service = Service::start(portguard, &["eth1", "--allowlist", &host.list()]);
    // The foreign program is a guard of portguard whose pins are elsewhere: on another machine, so to say.
    let other = SingleHost::bare(PORTGUARD);
    other.plug("eth1", "peer1");
    other.portguard().ok(&["attach", "eth1", "--allowlist", &other.list()]);
    other.namespace.ip(&format!("link set eth1 netns {}", host.namespace.name())).expect("moving");
    service.until_said("warning: eth1: NOT GUARDED, port 111 is open");
    assert_eq!(service.said().matches("another portguard's guard is attached already").count(), 1);
    // That machine is gone, but for its cable.
    let SingleHost { machine, namespace: _cable, .. } = other;
    drop(machine);
    service.wait_until("it is guarded by this one", || {
        host.namespace.ip("link set lo up").expect("an event");
        portguard.all_status().len() == 1
    });
}

#[test]
fn a_guard_that_cannot_be_renewed_is_kept_and_so_is_its_list() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // A bridge has no native mode.
    let mut service = Service::start(portguard, &["br0", "--mode", "native", "--allowlist", &list]);
    host.namespace.ip("link add br0 type bridge").expect("a bridge");
    service.until_said("warning: br0: NOT GUARDED, port 111 is open");
    portguard.ok(&["attach", "br0", "--mode", "generic", "--allowlist", &list]);
    host.namespace.ip("link set br0 up").expect("an event");
    service.until_said("br0: cannot change the mode from generic to native");
    service.until_said("warning: br0: the existing guard remains as it is");
    let told = portguard.fails(1, &["detach", "br0"]);
    assert!(told.contains("a portguard service keeps the guard on"), "{told}");
    host.lists.write("allowlist.yaml", ["198.51.100.0/24"]);
    service.wait_until("the list is in force", || portguard.status().allowlist.file.state == "unchanged");
    service.signal(Signal::SIGHUP);
    service.until("STATUS=br0: NOT AS ORDERED: mode generic -> native");
}
