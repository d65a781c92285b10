//! A service owns the orders of what it keeps: it puts them in force on the guards that are there, refuses every change by
//! hand, names the place to change, and restores what differs.

use nix::sys::signal::Signal;

use super::{changes, write_default_list};
use crate::support::{IFACE, PORTGUARD, Service, SingleHost, Status};

/// What a guard does: list, mode, whether it enforces, and sources.
fn seen(host: &SingleHost, status: &Status) -> (String, String, bool, u32) {
    let sources = host.machine.sources_of(status);
    (status.allowlist.path.clone(), status.mode.clone(), status.enforcing, sources)
}

/// Each subset of some things.
fn subsets<T: Copy>(things: &[T]) -> Vec<Vec<T>> {
    (0..1_u32 << things.len())
        .map(|mask| (0..things.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| things[bit]).collect())
        .collect()
}

/// {list, mode, audit, sources} x {named, not named}, on a guard that is there with everything else than the default.
#[test]
fn a_service_puts_its_order_in_force_and_leaves_what_it_does_not_order() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    write_default_list(&host.machine, "allow:\n  - 192.0.2.0/24\n");
    let by_hand = host.lists.write("by-hand.yaml", ["198.51.100.0/24"]);
    let of_service = host.lists.write("of-service.yaml", ["203.0.113.0/24"]);
    let parts: [&[&str]; 4] =
        [&["--allowlist", &of_service], &["--mode", "generic"], &["--audit"], &["--sources", "512"]];
    for (first, enforcing) in [("--audit", false), ("--enforce", true)] {
        for named in subsets(&parts) {
            portguard.run(&["detach", IFACE]);
            let attach = ["attach", IFACE, "--allowlist", &by_hand, "--mode", "generic", "--sources", "1024"];
            portguard.ok(&[&attach[..], &[first]].concat());
            assert_eq!(portguard.status().enforcing, enforcing);
            let arguments = [&[IFACE][..], &named.concat()].concat();
            let mut service = Service::start(portguard, &arguments);
            let is_named = |option: &str| named.iter().any(|part| part[0] == option);
            let list = if is_named("--allowlist") { &of_service } else { super::DEFAULT_LIST };
            let expected = (
                list.to_owned(),
                "generic".to_owned(),
                // Without --audit, a service enforces: its command line is the whole order.
                !is_named("--audit"),
                if is_named("--sources") { 512 } else { 1024 },
            );
            assert_eq!(seen(&host, &portguard.status()), expected, "{arguments:?}: {}", service.said());
            // Each change is told.
            service.until_said("eth0: renewed in place");
            let said = service.said();
            let told = changes(&said);
            assert!(told.iter().any(|change| change.contains(&format!("{by_hand} -> {list}"))), "{said}");
            assert_eq!(
                told.iter().any(|change| change.contains(" -> enforcing") || change.contains(" -> audit")),
                enforcing == is_named("--audit"),
                "{said}"
            );
            service.signal(Signal::SIGTERM);
            assert!(service.ended().success());
            assert_eq!(seen(&host, &portguard.status()), expected, "and the guard stays so");
        }
    }
}

#[test]
fn a_service_names_the_place_where_its_order_is_changed() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let other = host.lists.write("other.yaml", ["203.0.113.0/24"]);
    host.namespace.ip(&format!("link property add dev {IFACE} altname uplink0")).expect("a name");
    let service = Service::start(portguard, &[IFACE, "wg0", "--allowlist", &list]);
    let before = portguard.status();
    let place = format!("the command line of process {}", service.id());
    let parts: [&[&str]; 5] = [
        &["--allowlist", &other],
        &["--mode", "generic"],
        &["--audit"],
        &["--enforce"],
        &["--sources", "512"],
    ];
    for name in [IFACE, "uplink0", "wg0"] {
        for part in parts.iter().chain([&(&[] as &[&str])]) {
            let arguments = [&["attach", name][..], part].concat();
            // An interface that a service waits for is its, too; but it is not there to be attached to.
            let told = portguard.fails(1, &arguments);
            assert!(told.contains(&format!("{name}: the guard cannot be changed by hand")), "{told}");
            assert!(told.contains(&place), "{told}");
        }
    }
    for arguments in [&["detach", IFACE][..], &["detach", "--all"], &["detach", "uplink0"]] {
        let told = portguard.fails(1, arguments);
        assert!(told.contains("a portguard service keeps the guard on"), "{told}");
        assert!(told.contains(&place), "{told}");
    }
    let told = portguard.fails(1, &["reload", "--allowlist", &other]);
    assert!(told.contains("another list cannot be put in force by hand") && told.contains(&place), "{told}");
    for name in [IFACE, "uplink0", "wg0"] {
        let told = portguard.fails(1, &["run", name, "--allowlist", &list]);
        assert!(told.contains("another service keeps the guard") && told.contains(&place), "{told}");
    }
    assert_eq!(portguard.status(), before, "untouched");
    // Its own list, named, is its own list.
    assert!(portguard.ok(&["reload", "--allowlist", &list]).contains("generation 1 -> 2"));
}

#[test]
fn a_reload_is_handed_to_the_service_and_its_result_reported() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    let told = portguard.ok(&["reload"]);
    // It may have noticed the change by itself.
    assert!(
        told.starts_with("eth0: +1 -0, 1 unchanged") || told.starts_with("eth0: +0 -0, 2 unchanged"),
        "{told}"
    );
    service.until_said("unchanged, generation");

    host.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n");
    let output = portguard.run(&["reload", IFACE]);
    assert_eq!((output.code, &*output.stdout), (3, ""), "{output:?}");
    assert!(output.stderr.contains("allowlist.yaml:2:5"), "{output:?}");
    assert_eq!(portguard.status().allowlist.prefixes_v4, 2, "the list in force stays");

    // All entries of a family are gone: neither the service by itself nor a plain reload takes that.
    host.lists.write("allowlist.yaml", ["2001:db8::/48"]);
    service.until_said("has no IPv4 entry any more");
    let told = portguard.run(&["reload"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("--allow-empty"), "{told:?}");
    assert_eq!(portguard.status().allowlist.prefixes_v4, 2, "the list in force stays");
    portguard.ok(&["reload", "--allow-empty"]);
    assert_eq!((portguard.status().allowlist.prefixes_v4, portguard.status().allowlist.prefixes_v6), (0, 1));
}

/// A service that is killed leaves no order behind: by hand, the guard may be changed, and the next service restores.
#[test]
fn what_was_changed_while_no_service_was_there_is_restored_and_told() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let other = host.lists.write("all.yaml", ["0.0.0.0/0", "::/0"]);
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let ordered = seen(&host, &portguard.status());
    service.signal(Signal::SIGKILL);
    service.ended();
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &other]);
    assert!(!portguard.status().enforcing);
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert_eq!(seen(&host, &portguard.status()), ordered);
    let said = service.said();
    assert_eq!(
        changes(&said),
        [&*format!("  allowlist {other} -> {list}, +1 -2"), "  audit -> enforcing"],
        "{said}"
    );
}

/// The list that comes with the package is empty: a service that is enabled over a guard that works must not cut clients
/// off because nobody has written the list yet.
#[test]
fn a_service_with_an_empty_list_does_not_cut_off_the_clients_of_a_guard_that_is_there() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    write_default_list(&host.machine, "allow: []\n");
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let mut service = Service::start(portguard, &[IFACE]);
    service.until_said("allowlist.yaml has no IPv4 entry any more");
    assert!(service.until("STATUS=").contains("NOT AS ORDERED: allowlist"), "{}", service.said());
    let status = portguard.status();
    assert_eq!((&*status.allowlist.path, status.enforcing, status.allowlist.prefixes_v4), (&*list, true, 1));
    // Meant so, it is taken.
    portguard.ok(&["reload", "--allow-empty"]);
    assert_eq!(portguard.status().allowlist.path, super::DEFAULT_LIST);
}
