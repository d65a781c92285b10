//! Pins that are not what they should be: told, and not made worse.

use std::fs;
use std::path::Path;

use portguard_testkit::net::{End, Namespace, Veth};

use crate::support::{IFACE, PORTGUARD, SingleHost, program_on};

#[test]
fn a_guard_whose_pins_are_damaged_is_told_goes_on_and_can_be_detached() {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth1", "peer1");
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "eth1", "--allowlist", &host.list()]);
    let pins = host.machine.pins();
    let statuses = portguard.all_status();
    let status = statuses.iter().find(|status| status.interface == IFACE);
    let damaged = &status.expect("its status").pinned;
    let directory = Path::new(damaged).parent().expect("the directory of the interface").to_owned();
    let cells = directory.join(format!("abi{}-1/CELLS", portguard_common::ABI_VERSION));
    assert!(pins.iter().any(|pin| cells.ends_with(pin)), "{pins:?}");
    host.machine.mounts().run(|| Ok(fs::remove_file(&cells)?)).expect("a pin to damage");

    let output = portguard.run(&["status"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(
        output.stderr.contains("CELLS") && output.stdout.starts_with("eth1: "),
        "the healthy one is shown: {output:?}"
    );
    assert!(program_on(&host.namespace, IFACE).is_some(), "the guard is on still");
    portguard.fails(1, &["attach", IFACE, "--allowlist", &host.list()]);
    portguard.fails(1, &["stats", IFACE]);
    portguard.ok(&["detach", "--all"]);
    assert_eq!(program_on(&host.namespace, IFACE), None);
    host.machine.assert_tidy(0);
}

/// Indexes are used again: a pin that belongs to a card that was moved away says nothing about a new one of its index.
#[test]
fn a_new_interface_is_not_taken_for_the_one_that_was_moved_away() {
    let host = SingleHost::bare(PORTGUARD);
    let away = Namespace::new("away").expect("a namespace");
    host.namespace.ip("link add old index 50 type veth peer name oldpeer index 51").expect("a cable");
    let portguard = host.portguard();
    portguard.ok(&["attach", "old", "--allowlist", &host.list()]);
    let guard = program_on(&host.namespace, "old");
    host.namespace.ip(&format!("link set old netns {}", away.name())).expect("to move it");
    host.namespace.ip("link add new index 50 type veth peer name newpeer index 60").expect("another cable");

    assert_eq!(portguard.all_status(), []);
    let told = portguard.fails(1, &["attach", "new", "--allowlist", &host.list()]);
    assert!(
        told.contains("new: the path of its pins is in use")
            && told.contains("moved to another network namespace"),
        "{told}"
    );
    portguard.fails(4, &["detach", "new"]);
    assert_eq!(program_on(&away, "old"), guard, "the guard of the other one goes on");
    // What is attached elsewhere meanwhile does not sweep it away.
    let ends = ["eth1", "peer1"].map(|name| End::new(&host.namespace, name));
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    portguard.ok(&["attach", "eth1", "--allowlist", &host.list()]);
    assert_eq!(program_on(&away, "old"), guard);
}
