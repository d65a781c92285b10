//! `allow` with conditions: what it writes, and what it refuses, because the longest prefix decides.

use std::path::Path;

use jiff::Timestamp;
use portguard::allowlist::Allowlist;
use portguard_testkit::documents::change::Document;

use crate::Host;

const LIST: &str = "udp: lookups\nallow:\n  - 192.0.2.0/24\n";

/// When the last entry of the list ends.
fn until(host: &Host) -> Timestamp {
    let text = host.text();
    let list = Allowlist::parse(Path::new("list.yaml"), text.as_bytes()).expect("a list").allowlist;
    let entry = list.entries().last().expect("an entry");
    entry.conditions().and_then(|it| it.until).expect("an end")
}

#[test]
fn what_lasts_is_written_as_the_time_at_which_it_ends() {
    for (lasting, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800), ("1w", 604_800)] {
        let host = Host::default();
        host.list("allow: []\n");
        let before = Timestamp::now().as_second();
        let told = host.ok(&["allow", "192.0.2.7", "--for", lasting]);
        let end = until(&host);
        let lasted = end.as_second() - seconds;
        assert!((before..=Timestamp::now().as_second()).contains(&lasted), "{lasting}: {end}");
        assert_eq!(end.subsec_nanosecond(), 0);
        assert_eq!(host.text(), format!("allow:\n  - prefix: 192.0.2.7\n    until: {end}\n"));
        let path = host.path();
        assert_eq!(told.stdout, format!("192.0.2.7/32 added to {}, line 2: until {end}\n", path.display()));
    }
}

#[test]
fn what_is_no_condition_is_refused() {
    let host = Host::default();
    host.list(LIST);
    for (arguments, why) in [
        (&["--for", "2"][..], "`2` is not a duration: write a number and a unit"),
        (&["--for", "9999999w"], "--for is too long"),
        (&["--for", "2h", "--until", "2499-12-01"], "cannot be used with"),
        (&["--until", "2499-12-01T18:00:00"], "has no offset from UTC: add one"),
        (&["--until", "2020-01-01"], "2020-01-02T00:00:00Z has passed: the entries would allow nobody"),
        (&["--udp", "lookup"], "[possible values: all, lookups, none]"),
        (&["--rate", "100"], "did you mean 100/s?"),
        (&["--interfaces", "eth0:1"], "did you mean eth0?"),
        (&["--interfaces", "eth0,"], "the name of an interface is empty"),
    ] {
        let told = host.fails(2, &[&["allow", "198.51.100.7"], arguments].concat());
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
}

#[test]
fn an_entry_that_would_cut_off_what_a_larger_one_allows_takes_force() {
    for (arguments, why) in [
        (&["--until", "2499-12-01"][..], "after 2499-12-02T00:00:00Z it cuts the host off"),
        (&["--interfaces", "eth1,eth2"], "on other interfaces than eth1 or eth2 it cuts the host off"),
        (&["--udp", "none"], "over UDP it permits nothing"),
        (&["--rate", "5/s"], "it lets at most 5 packets a second over UDP pass"),
    ] {
        let host = Host::default();
        host.list(LIST);
        let allow = [&["allow", "192.0.2.7"], arguments].concat();
        let told = host.fails(1, &allow);
        let what = "192.0.2.7/32 is inside 192.0.2.0/24, on line 3, and would be stricter: ";
        assert!(told.contains(&format!("{what}{why}")) && told.contains("--force"), "{told}");
        let told = host.ok(&[&allow[..], &["--force"]].concat());
        let warned = format!("192.0.2.7/32 is inside 192.0.2.0/24, on line 3, and is stricter: {why}");
        assert!(told.stderr.contains(&warned), "{}", told.stderr);
    }
    // The nearest one decides, and an end that is further away cuts nobody off.
    let host = Host::default();
    host.list("allow:\n  - 192.0.2.0/24\n  - prefix: 192.0.2.0/28\n    until: 2498-01-01\n");
    let told = host.ok(&["allow", "192.0.2.7", "--until", "2499-01-01"]);
    assert!(!told.stderr.contains("192.0.2.7/32 is inside"), "{}", told.stderr);
    let told = host.fails(1, &["allow", "192.0.2.8", "--until", "2497-01-01"]);
    assert!(told.contains("192.0.2.8/32 is inside 192.0.2.0/28, on line 3"), "{told}");
    // Without conditions, it is stricter than one that overrides the list.
    let host = Host::default();
    host.list("udp: none\nallow:\n  - prefix: 192.0.2.0/24\n    udp: all\n");
    let told = host.fails(1, &["allow", "192.0.2.7"]);
    assert!(told.contains("over UDP it permits nothing"), "{told}");
    host.ok(&["allow", "192.0.2.7", "--udp", "all"]);
}

#[test]
fn the_document_has_the_conditions_and_absent_interfaces_are_noted() {
    let host = Host::default();
    host.list("allow: []\n");
    let named = ["--until", "2499-12-01", "--interfaces", "lo,no-card", "--udp", "none", "--rate", "5/s"];
    let told = host.ok(&[&["allow", "192.0.2.7", "--json"], &named[..]].concat());
    assert!(told.stderr.contains("note: no interface of this host matches no-card\n"), "{}", told.stderr);
    let document: Document = serde_json::from_str(&told.stdout).expect("JSON");
    let conditions = document.conditions.expect("conditions");
    assert_eq!(conditions.interfaces.expect("interfaces"), ["lo", "no-card"]);
    assert_eq!(conditions.until.as_deref(), Some("2499-12-02T00:00:00Z"));
    assert_eq!((conditions.udp.as_deref(), conditions.rate), (Some("none"), Some(5)));
    let told = host.ok(&["allow", "::1", "--json"]);
    let document: Document = serde_json::from_str(&told.stdout).expect("JSON");
    assert!(document.conditions.is_none());
}

#[test]
fn what_is_there_with_other_conditions_is_named() {
    let host = Host::default();
    host.list("udp: lookups\nallow:\n  - 192.0.2.0/24\n  - prefix: ::1\n    until: 2499-12-01\n");
    let told = host.fails(1, &["allow", "192.0.2.0/24", "--udp", "all"]);
    assert!(
        told.contains(
            "192.0.2.0/24 is on the list already, on line 3, with other conditions: it has: none; the command names: udp all"
        ),
        "{told}"
    );
    assert!(told.contains("use --force") && told.contains("portguard edit"), "{told}");
    let told = host.fails(1, &["allow", "::1"]);
    assert!(told.contains("it has: until 2499-12-02T00:00:00Z; the command names: none"), "{told}");
    // What comes to the same is no error.
    let before = host.text();
    host.ok(&["allow", "192.0.2.0/24", "--udp", "lookups"]);
    host.ok(&["allow", "::1", "--until", "2499-12-02T02:00:00+02:00"]);
    assert_eq!(host.text(), before);
}

#[test]
fn a_later_end_takes_the_place_of_the_one_before_and_the_rest_stays() {
    let host = Host::default();
    host.list(
        "udp: lookups\nallow:\n  - 192.0.2.0/24  # ours\n  - prefix: 198.51.100.7\n    until: 2498-12-01\n    udp: all\n    comment: a guest\n",
    );
    let told = host.ok(&["allow", "198.51.100.7", "--until", "2499-12-01"]);
    assert!(told.stdout.contains("198.51.100.7/32 changed in"), "{}", told.stdout);
    assert!(told.stdout.contains(": until 2499-12-02T00:00:00Z, udp all\n"), "{}", told.stdout);
    let text = host.text();
    assert!(text.starts_with("udp: lookups\nallow:\n  - 192.0.2.0/24  # ours\n"), "{text}");
    assert!(text.contains("comment: \"a guest\"") && text.contains("udp: all"), "{text}");
    assert!(!text.contains("2498"), "{text}");
    assert_eq!(text.matches("198.51.100.7").count(), 1, "{text}");
    // An earlier end, and other conditions, take --force.
    for other in
        [&["--until", "2497-12-01"][..], &["--until", "2499-12-03", "--udp", "none"], &["--rate", "5/s"], &[]]
    {
        let before = host.text();
        let command = [&["allow", "198.51.100.7"], other].concat();
        assert!(host.fails(1, &command).contains("with other conditions"), "{other:?}");
        assert_eq!(host.text(), before);
        let document = host.ok(&[&command[..], &["--force", "--json"]].concat()).stdout;
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(document["changed"][0]["prefix"], "198.51.100.7/32", "{document}");
        assert_eq!(document["added"].as_array().map(Vec::len), Some(0), "{document}");
        host.list(&before);
    }
    // Without a change there is none.
    let before = host.text();
    host.ok(&["allow", "198.51.100.7", "--until", "2499-12-01", "--udp", "all"]);
    assert_eq!(host.text(), before);
}
