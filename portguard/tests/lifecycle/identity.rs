//! Which guard is whose: namespaces that share a name, interfaces that go, come back, or change their name.

use std::thread;
use std::time::Duration;

use portguard_testkit::net::{End, Namespace, Veth};

use crate::support::{IFACE, PORTGUARD, SingleHost, Status, Testbed, Traffic, program_on};

#[test]
fn interfaces_of_the_same_name_in_two_namespaces_are_two_guards() {
    let host = SingleHost::new(PORTGUARD);
    let other_namespace = Namespace::new("other").expect("a namespace");
    let ends = [IFACE, "peer0"].map(|name| End::new(&other_namespace, name));
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    let index = |namespace: &Namespace| namespace.ifindex(IFACE).expect("its index");
    assert_eq!(index(&host.namespace), index(&other_namespace), "or this test tests nothing");

    let (one, other) = (host.portguard(), host.machine.portguard(&other_namespace));
    one.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    assert_eq!(other.all_status(), []);
    let told = other.fails(4, &["detach", IFACE]);
    assert!(told.contains("no guard is attached"), "{told}");

    let list = host.lists.write("other.yaml", ["198.51.100.0/24", "203.0.113.0/24"]);
    other.ok(&["attach", IFACE, "--allowlist", &list, "--audit"]);
    let statuses = [one.status(), other.status()];
    assert_eq!(statuses.each_ref().map(|status| status.enforcing), [true, false]);
    assert_eq!(statuses.each_ref().map(|status| status.allowlist.prefixes_v4), [1, 2]);
    assert_ne!(statuses[0].pinned, statuses[1].pinned);
    assert_ne!(statuses[0].program.id, statuses[1].program.id);
    host.machine.assert_tidy(2);

    one.ok(&["reload"]);
    one.ok(&["detach", "--all"]);
    assert_eq!(one.all_status(), []);
    assert_eq!(other.status(), statuses[1], "the other one has not noticed");
    host.machine.assert_tidy(1);
}

#[test]
fn what_a_namespace_leaves_behind_is_swept() {
    let host = SingleHost::new(PORTGUARD);
    let gone = Namespace::new("gone").expect("a namespace");
    let ends = [IFACE, "peer0"].map(|name| End::new(&gone, name));
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    host.machine.portguard(&gone).ok(&["attach", IFACE, "--allowlist", &host.list()]);
    host.machine.assert_tidy(1);
    drop(gone);

    // The kernel takes a namespace down in its own time.
    let portguard = host.portguard();
    portguard_testkit::net::wait_until("nothing is left", crate::support::PATIENCE, || {
        portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
        portguard.ok(&["detach", IFACE]);
        Ok(host.machine.pins().is_empty())
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", host.machine.pins()));
}

#[test]
fn an_interface_that_comes_back_is_not_taken_for_a_guarded_one() {
    const INDEX: u32 = 77;
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let plug = || {
        let lines = format!("link add {IFACE} index {INDEX} type veth peer name peer0\nlink set {IFACE} up");
        host.namespace.ip(&lines).expect("a cable");
    };
    plug();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!(portguard.status().ifindex, INDEX);

    host.namespace.ip(&format!("link del {IFACE}")).expect("unplugging");
    assert_eq!(portguard.all_status(), []);
    assert_eq!(portguard.all_stats(&[]), []);
    let told = portguard.fails(4, &["status", IFACE]);
    assert!(told.contains("eth0: no such interface"), "{told}");

    // The same name, and even the same index.
    plug();
    assert_eq!(portguard.all_status(), []);
    for command in ["status", "stats", "detach", "reload"] {
        let told = portguard.run(&[command, IFACE]);
        assert_eq!(told.code, 4, "{command}: {told:?}");
        assert!(told.stderr.contains("eth0: no guard is attached"), "{command}: {told:?}");
    }
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let status = portguard.status();
    assert_eq!((status.ifindex, status.generation), (INDEX, 1), "a new guard");
    host.machine.assert_tidy(1);

    // The same name, another index: what the old one left behind goes when the new one comes.
    host.namespace.ip(&format!("link del {IFACE}")).expect("unplugging");
    host.plug(IFACE, "peer0");
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_ne!(portguard.status().ifindex, INDEX);
    host.machine.assert_tidy(1);
}

#[test]
fn a_new_name_is_shown_and_the_guard_stays_on() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let before = portguard.status();
    testbed.server.namespace().ip("link set eth0 name wan.100").expect("renaming an interface that is up");

    let mut after = portguard.status();
    assert_eq!(std::mem::replace(&mut after.interface, IFACE.to_owned()), "wan.100");
    assert_eq!(after, before, "but for the name");
    let told = portguard.fails(4, &["stats", IFACE]);
    assert!(told.contains("eth0: no such interface") && told.contains("wan.100"), "{told}");

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(50));
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let told = portguard.ok(&["reload"]);
    assert!(told.starts_with("wan.100: +0 -0, 2 unchanged, generation 1 -> 2"), "{told}");
    assert_eq!(portguard.ok(&["detach", "wan.100"]), "wan.100: detached, port 111 is open\n");
}

#[test]
fn the_guard_of_an_interface_that_moves_to_another_namespace_is_not_swept_away() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let Status { ifindex, program, .. } = portguard.status();
    let elsewhere = Namespace::new("elsewhere").expect("a namespace");
    // Its index is taken there, so it gets another one.
    elsewhere.ip(&format!("link add taken index {ifindex} type veth peer name peer0")).expect("a cable");
    host.namespace.ip(&format!("link set {IFACE} netns {}", elsewhere.name())).expect("moving");
    assert_ne!(elsewhere.ifindex(IFACE).expect("its index"), ifindex);

    // The kernel moves the program along: the port stays guarded, and the guard is shown where it is now. Nothing that
    // is done elsewhere takes it off.
    let there = host.machine.portguard(&elsewhere);
    assert_eq!(portguard.all_status(), []);
    let status = there.status();
    assert_eq!((&*status.interface, status.program.id), (IFACE, program.id));
    assert_eq!(status.ifindex, elsewhere.ifindex(IFACE).expect("its index"));
    host.plug("eth1", "peer1");
    portguard.ok(&["attach", "eth1", "--allowlist", &list]);
    portguard.ok(&["detach", "eth1"]);
    there.ok(&["attach", "taken", "--allowlist", &list]);
    assert_eq!(program_on(&elsewhere, IFACE), Some(program.id));
    // And it goes on there as any other.
    let told = there.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!(told, "eth0: renewed in place, enforcing, 1 entry, counters kept\n");
    there.ok(&["reload", IFACE]);
    there.ok(&["detach", IFACE]);
    assert_eq!(program_on(&elsewhere, IFACE), None);
    assert_eq!(there.status().interface, "taken");
    host.machine.assert_tidy(1);
}
