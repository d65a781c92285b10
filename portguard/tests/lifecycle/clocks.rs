//! A wall clock that is set while a guard counts: units start before the time is known.
//!
//! The wall clock of the test machine stays as it is: a [`ShiftedClock`] shifts it for the portguard that attaches; the ones that
//! read afterwards see it as it is.

use std::process::Command;
use std::thread;
use std::time::Duration;

use portguard_testkit::documents::doctor::{Document, Finding};
use portguard_testkit::net::run;
use serde_json::Value;

use crate::support::{
    DENIED, IFACE, Output, PORTGUARD, Portguard, Role, ShiftedClock, SingleHost, Testbed, Traffic, burst,
};

/// How far the clock is off, in seconds.
const SHIFT: i64 = 2 * 3600;
/// A test takes less, in seconds.
const A_TEST: i64 = 300;
/// Seconds of Unix time of a time as `date` reads it.
fn seconds(time: &str) -> i64 {
    let date = run(Command::new("date").args(["-u", "+%s", "--date", time])).expect("date").stdout;
    date.trim().parse().expect("seconds")
}

/// Seconds of a field of a document.
#[track_caller]
fn seconds_of(document: &Value, pointer: &str) -> i64 {
    let time = document.pointer(pointer).and_then(Value::as_str);
    seconds(time.unwrap_or_else(|| panic!("no {pointer} in {document}")))
}

fn json(portguard: Portguard<'_>, arguments: &[&str]) -> Value {
    serde_json::from_str(&portguard.ok(arguments)).expect("JSON")
}

/// A guard is attached, and counts, while the clock is off by so many seconds; then the clock is right.
fn a_clock_is_set_right(off: i64) {
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let attach = ["attach", IFACE, "--allowlist", &testbed.list()];
    let output = Output::of(&mut clock.command(portguard, &attach, off));
    assert_eq!(output.code, 0, "{output:?}");
    let output = Output::of(&mut clock.command(portguard, &["stats", "--json"], off));
    let document: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let now = seconds("now");
    let shifted = seconds_of(&document, "/taken_at") - now;
    assert!(
        (off - A_TEST..=off + A_TEST).contains(&shifted),
        "portguard's clock is off by {shifted}, not {off}"
    );

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        // A stamp is 64 jiffies wide.
        thread::sleep(Duration::from_millis(700));
        traffic.end()
    });
    portguard.assert_counted(&exchanged);
    let stats = json(portguard, &["stats", "--json"]);
    assert_in_order(&stats, now);
    assert_in_order(&json(portguard, &["report", "--json"]), now);
    let attached = seconds_of(&json(portguard, &["status", "--json"]), "/interfaces/0/attached_at");
    assert!((now - A_TEST..=now + A_TEST).contains(&attached), "attached {} s ago", now - attached);
    assert_report_has_a_period(portguard);

    // A reset begins to count by the clock that is right; and what was counted before ends then.
    burst(&testbed, Role::Denied, 4);
    let printed = json(portguard, &["stats", "--json", "--reset"]);
    assert_in_order(&printed, now);
    let rest = json(portguard, &["stats", "--json"]);
    assert!(seconds_of(&printed, "/interfaces/0/since") <= seconds_of(&rest, "/interfaces/0/since"));
    assert!(seconds_of(&rest, "/interfaces/0/since") <= seconds_of(&rest, "/taken_at"));
}

/// Asserts that times of a document follow one another, and are those of this test.
#[track_caller]
fn assert_in_order(document: &Value, now: i64) {
    let taken = seconds_of(document, "/taken_at");
    let since = seconds_of(document, "/interfaces/0/since");
    assert!(since >= now - A_TEST, "it began {} s ago: {document}", now - since);
    for source in 0..DENIED.len() {
        let seen = |which: &str| seconds_of(document, &format!("/interfaces/0/sources/{source}/{which}"));
        let (first, last) = (seen("first_seen"), seen("last_seen"));
        assert!(
            since <= first && first <= last && last <= taken,
            "since {since}, first {first}, last {last}, taken {taken}: {document}"
        );
    }
}

/// Asserts that the report for people names a period that does not end before it begins.
#[track_caller]
fn assert_report_has_a_period(portguard: Portguard<'_>) {
    let report = portguard.ok(&["report"]);
    let times: Vec<&str> = report
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', '.', ':', ';']))
        .filter(|word| word.len() >= 20 && word.ends_with('Z') && word.contains('T'))
        .collect();
    let [from, to, ..] = times[..] else { panic!("no period in {report}") };
    assert!(seconds(from) <= seconds(to), "from {from} to {to}: {report}");
}

#[test]
fn a_clock_that_is_set_back_after_attach_leaves_the_times_in_order() {
    a_clock_is_set_right(SHIFT);
}

#[test]
fn a_clock_that_is_set_forward_after_attach_leaves_the_times_in_order() {
    a_clock_is_set_right(-SHIFT);
}

#[test]
fn doctor_names_deadlines_that_are_off_and_its_remedy_sets_them_right() {
    let clock = ShiftedClock::new();
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = "allow:\n  - prefix: 192.0.2.0/24\n    until: 2400-01-01T00:00:00Z\n";
    let list = host.lists.write_text("ends.yaml", list);
    let output = Output::of(&mut clock.command(portguard, &["attach", IFACE, "--allowlist", &list], SHIFT));
    assert_eq!(output.code, 0, "{output:?}");
    let deadlines = || -> Vec<Finding> {
        let document = Document::of(&Output::of(&mut portguard.command(["doctor", "--json"])));
        document.problems().into_iter().filter(|finding| finding.id == "guard.deadlines").collect()
    };
    let [finding] = &deadlines()[..] else { panic!("{:?}", deadlines()) };
    assert_eq!((finding.subject.as_deref(), &*finding.status), (Some(IFACE), "warning"), "{finding:?}");
    let off = portguard.status().allowlist.deadlines_off_by;
    assert!(off.abs_diff(SHIFT as u64) <= 1, "{off} s");
    assert!(finding.found.contains("the clock was set"), "{finding:?}");
    assert_eq!(finding.remedy.as_deref(), Some("portguard reload eth0"), "{finding:?}");

    portguard.ok(&["reload", IFACE]);
    assert_eq!(deadlines(), []);
    assert_eq!(portguard.status().allowlist.deadlines_off_by, 0);
}
