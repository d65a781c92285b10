//! `interfaces`: an entry allows what comes in on some guarded interfaces, by any of their names.

use std::net::IpAddr;

use portguard_testkit::net::Namespace;

use super::called_by;
use crate::explain::verdict;
use crate::support::{Cable, Lists, Machine, PORTGUARD, Portguard, Service};

/// Two cables from one host to two interfaces of another one.
struct Cables {
    machine: Machine,
    guarded: Namespace,
    _sender: Namespace,
    lists: Lists,
    cables: [Cable; 2],
}

const NAMES: [&str; 2] = ["lan0", "wan0"];
const SOURCES: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

impl Cables {
    fn new() -> Self {
        let [guarded, sender] =
            ["guarded", "sender"].map(|label| Namespace::new(label).expect("a namespace"));
        let cables = NAMES.map(|name| Cable::lay(&guarded, &sender, name));
        Self { machine: Machine::new(PORTGUARD), guarded, _sender: sender, lists: Lists::new(), cables }
    }

    fn portguard(&self) -> Portguard<'_> {
        self.machine.portguard(&self.guarded)
    }

    /// Writes a list whose entries are for these interfaces. Returns its path.
    fn list(&self, interfaces: &str) -> String {
        let entry = |prefix| format!("  - prefix: {prefix}\n    interfaces: {interfaces}\n");
        let entries = ["192.0.2.0/24", "2001:db8::/48"].map(entry).concat();
        self.lists.write_text("interfaces.yaml", &format!("allow:\n{entries}"))
    }

    /// On which of the cables packets of both sources get past the guard.
    #[track_caller]
    fn get_past(&self) -> [bool; 2] {
        let packets = SOURCES.map(|source| called_by(source.parse().expect("an address"), "null"));
        [0, 1].map(|cable| {
            let past = self.cables[cable].get_past(&packets);
            assert_eq!(past[0], past[1], "over IPv4 and over IPv6");
            past[0]
        })
    }

    /// Asserts on which of the interfaces the sources are allowed: on the wire, by the counters, and as `explain` tells.
    #[track_caller]
    fn assert_allowed_on(&self, expected: [bool; 2], why: &str) {
        let portguard = self.portguard();
        portguard.ok(&["stats", "--reset"]);
        assert_eq!(self.get_past(), expected, "{why}");
        let stats = portguard.all_stats(&[]);
        let guards = portguard.all_status();
        for (number, allowed) in expected.into_iter().enumerate() {
            let guard = &guards[number].interface;
            let stats = stats.iter().find(|it| it.interface == *guard).expect("its counters");
            let of = |allowed: bool| if allowed { SOURCES.len() as u64 } else { 0 };
            let wrong = stats.totals.by_reason.of("wrong_interface");
            assert_eq!(
                (stats.totals.allowed.packets, wrong.packets),
                (of(allowed), of(!allowed)),
                "{why}: {stats:?}"
            );
            assert_eq!(stats.denied(), wrong, "{why}: {stats:?}");
            let attributed: Vec<IpAddr> = stats.by_source().into_keys().collect();
            assert_eq!(attributed.len(), of(!allowed) as usize, "{why}: {stats:?}");
            for source in SOURCES {
                let told = verdict(portguard, &[source, "--iface", guard]);
                assert_eq!(
                    told.reason.as_deref(),
                    (!allowed).then_some("wrong_interface"),
                    "{why}: {told:?}"
                );
                assert!(told.entry.is_some_and(|it| it.conditions.is_some_and(|it| it.interfaces.is_some())));
            }
        }
    }

    /// Waits until packets get past on these of the interfaces.
    #[track_caller]
    fn until_allowed_on(&self, service: &Service, expected: [bool; 2], why: &str) {
        service.wait_until(why, || self.get_past() == expected);
        self.assert_allowed_on(expected, why);
    }
}

#[test]
fn an_entry_allows_on_its_interfaces_only_by_name_pattern_and_alternative_name() {
    let host = Cables::new();
    let portguard = host.portguard();
    host.guarded.ip("link property add dev wan0 altname uplink-to-the-provider").expect("a name");
    let list = host.list("lan0");
    portguard.ok(&["attach", "lan0", "wan0", "--allowlist", &list]);
    host.assert_allowed_on([true, false], "lan0");
    for (interfaces, expected) in [
        ("wan0", [false, true]),
        ("[lan*]", [true, false]),
        ("[other, '*an0']", [true, true]),
        ("uplink-to-the-provider", [false, true]),
        ("['uplink-*-provider', lan1]", [false, true]),
        ("[lan, wan, '*1']", [false, false]),
        ("'*'", [true, true]),
    ] {
        host.list(interfaces);
        portguard.ok(&["reload"]);
        host.assert_allowed_on(expected, interfaces);
    }
}

#[test]
fn names_are_resolved_again_by_a_reload() {
    let host = Cables::new();
    let portguard = host.portguard();
    portguard.ok(&["attach", "lan0", "wan0", "--allowlist", &host.list("[lan*]")]);
    host.assert_allowed_on([true, false], "at first");
    for (change, expected) in [
        ("link property add dev wan0 altname lan-too", [true, true]),
        ("link property del dev wan0 altname lan-too", [true, false]),
        ("link set lan0 name dmz0", [false, false]),
        ("link set wan0 name lan7", [false, true]),
    ] {
        let before = host.get_past();
        host.guarded.ip(change).expect("another name");
        assert_eq!(host.get_past(), before, "{change}: not before a reload");
        portguard.ok(&["reload"]);
        host.assert_allowed_on(expected, change);
    }
}

#[test]
fn a_service_loads_the_list_again_when_names_change() {
    let host = Cables::new();
    let portguard = host.portguard();
    // It keeps the second one by a name that stays.
    host.guarded.ip("link property add dev wan0 altname second").expect("a name");
    let list = host.list("[lan*]");
    let service = Service::start(portguard, &["lan0", "second", "--allowlist", &list]);
    host.assert_allowed_on([true, false], "at first");
    for (change, expected) in [
        ("link property add dev wan0 altname lan-too", [true, true]),
        ("link property del dev wan0 altname lan-too", [true, false]),
        ("link set wan0 name lan7", [true, true]),
    ] {
        host.guarded.ip(change).expect("another name");
        host.until_allowed_on(&service, expected, change);
    }
    service.until_said("lan7: it has other names; its list was loaded again");
    let generations = |portguard: Portguard<'_>| -> Vec<u64> {
        portguard.all_status().iter().map(|guard| guard.generation).collect()
    };
    assert_eq!(generations(portguard), [1, 4], "each change loads one list, once");

    // A list without conditions refers to no name.
    host.lists.write("interfaces.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    portguard.ok(&["reload"]);
    let before = generations(portguard);
    host.guarded.ip("link property add dev lan7 altname spare").expect("a name");
    host.guarded.ip("link property add dev lan0 altname spare2").expect("a name");
    portguard.ok(&["reload"]);
    let reloaded: Vec<u64> = before.iter().map(|generation| generation + 1).collect();
    assert_eq!(generations(portguard), reloaded, "by the command only: {}", service.said());
}

/// What could not be loaded is not forgotten, and not told as loaded.
#[test]
fn a_service_goes_on_to_follow_names_where_the_list_could_not_be_loaded() {
    let host = Cables::new();
    let portguard = host.portguard();
    let list = host.list("[lan*]");
    let service = Service::start(portguard, &["lan0", "wan0", "--allowlist", &list]);
    // The file has a list that was rejected.
    host.list("['lan*', x]");
    portguard.ok(&["reload", "--confirm=1"]);
    service.wait_until("it is taken back", || {
        portguard
            .all_status()
            .iter()
            .all(|it| it.confirmation.as_ref().is_some_and(|it| it.state == "rejected"))
    });
    host.guarded.ip("link property add dev wan0 altname lan-too").expect("a name");
    host.guarded.ip("link set lan0 mtu 1400").expect("an event");
    portguard.run(&["explain", "192.0.2.10"]);
    assert_eq!(host.get_past(), [true, false], "{}", service.said());
    assert!(!service.said().contains("other names"), "{}", service.said());
    // The list in force once more, and the names are followed.
    host.list("[lan*]");
    host.until_allowed_on(&service, [true, true], "the list in force, with other names");
    drop(service);

    // Names change while no service runs, and the next one starts with a broken file.
    let good = std::fs::read_to_string(&list).expect("the list");
    host.lists.write_text("interfaces.yaml", "allow: [");
    host.guarded.ip("link property del dev wan0 altname lan-too").expect("no name");
    let service = Service::start(portguard, &["lan0", "wan0", "--allowlist", &list]);
    assert_eq!(host.get_past(), [true, true], "{}", service.said());
    host.lists.write_text("interfaces.yaml", &good);
    host.until_allowed_on(&service, [true, false], "the same file, valid again");
}

/// The bytes of a name can be written in capitals, as on the command line.
#[test]
fn names_of_any_bytes_are_matched() {
    let host = Cables::new();
    let portguard = host.portguard();
    host.guarded.ip("link property add dev wan0 altname größe").expect("a name");
    portguard.ok(&["attach", "lan0", "wan0", "--allowlist", &host.list("['gr\\xC3\\xb6\\xC3\\x9fe']")]);
    host.assert_allowed_on([false, true], "escaped");
}

#[test]
fn a_service_leaves_a_list_on_trial_and_a_broken_file_until_it_can_load_the_list() {
    let host = Cables::new();
    let portguard = host.portguard();
    let list = host.list("[lan*]");
    let service = Service::start(portguard, &["lan0", "wan0", "--allowlist", &list]);
    host.list("['lan*', x]");
    portguard.ok(&["reload", "--confirm=600"]);
    host.guarded.ip("link property add dev wan0 altname lan-too").expect("a name");
    // The service has seen the event when it has done what comes after it.
    host.guarded.ip("link set lan0 mtu 1400").expect("an event");
    portguard.run(&["explain", "192.0.2.10"]);
    assert_eq!(host.get_past(), [true, false], "{}", service.said());
    assert!(portguard.all_status().iter().all(|guard| guard.confirmation.is_some()));
    portguard.ok(&["confirm"]);
    host.until_allowed_on(&service, [true, true], "after the confirmation");

    let good = host.list("['lan*', x]");
    let text = std::fs::read_to_string(&good).expect("the list");
    host.lists.write_text("interfaces.yaml", "allow: [");
    service.until_said("is broken: the lists in force remain");
    host.guarded.ip("link property del dev wan0 altname lan-too").expect("a name");
    host.guarded.ip("link set lan0 mtu 1300").expect("an event");
    portguard.run(&["explain", "192.0.2.10"]);
    assert_eq!(host.get_past(), [true, true]);
    host.lists.write_text("interfaces.yaml", &text);
    host.until_allowed_on(&service, [true, false], "when the file is valid again");
}
