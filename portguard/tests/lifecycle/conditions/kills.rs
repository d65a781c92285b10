//! Loaders that are killed while they bring the first conditions, or take the last ones away: one of the two lists is in force.

use std::thread;

use portguard_testkit::figures::Figures;

use super::{entries, write};
use crate::explain::verdict;
use crate::support::{IFACE, OTHER, PORTGUARD, Role, Testbed, Traced, Traffic, chosen, run_to, system_calls};

/// How many kills the short form spreads over a command.
const SAMPLE: u64 = 24;
/// After so many kills nothing must be left behind.
const TIDY: u64 = 25;

/// Kills a reload from one list to the other at each of its calls. Returns how often, and how often the new list was in force.
fn kill_everywhere(testbed: &Testbed, lists: [&str; 2], reasons: [Option<&str>; 2]) -> (u64, u64) {
    let portguard = testbed.portguard();
    let [from, to] = lists.map(|list| ["reload", IFACE, "--allowlist", list]);
    portguard.ok(&from);
    let calls = system_calls(&mut portguard.command(to));
    let (mut kills, mut new) = (0, 0);
    for call in chosen(calls.clone(), SAMPLE) {
        // What the last kill has left makes the next command longer, and this one would be killed too early.
        portguard.ok(&to);
        portguard.ok(&from);
        match run_to(&mut portguard.command(to), call) {
            Traced::Killed => kills += 1,
            Traced::Ended(code) => assert_eq!(code, 0, "at call {call} of {}", calls.end),
        }
        let status = portguard.status();
        let at = format!("killed at call {call} of {}, from {} to {}", calls.end, lists[0], lists[1]);
        assert!(status.enforcing, "{at}");
        let is_new = usize::from(status.allowlist.path == lists[1]);
        assert_eq!(status.allowlist.path, lists[is_new], "{at}");
        new += is_new as u64;
        let expected = if reasons[is_new].is_some() { 2 } else { 0 };
        assert_eq!(status.allowlist.conditional, expected, "{at}");
        for source in OTHER {
            let told = verdict(portguard, &[&source.to_string()]);
            assert_eq!(told.reason.as_deref(), reasons[is_new], "{at}: {told:?}");
            assert!(told.entry.is_some() && told.allowlist.path == lists[is_new], "{at}: {told:?}");
        }
        if kills % TIDY == 0 {
            portguard.ok(&to);
            testbed.machine.assert_tidy(1);
        }
    }
    portguard.ok(&to);
    testbed.machine.assert_tidy(1);
    assert!(kills > 0, "none was killed");
    (kills, new)
}

#[test]
fn a_loader_that_is_killed_while_conditions_come_or_go_leaves_one_of_the_two_lists() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let allowed = entries(Role::Allowed, &[]);
    let plain = write(&testbed, "plain.yaml", &[allowed.clone(), entries(Role::Victim, &[])]);
    let ended = entries(Role::Victim, &["until: 2020-01-01"]);
    let conditional = write(&testbed, "conditional.yaml", &[allowed.clone(), ended]);
    let elsewhere = entries(Role::Victim, &["interfaces: other"]);
    let other = write(&testbed, "other.yaml", &[elsewhere, allowed]);
    portguard.ok(&["attach", IFACE, "--allowlist", &plain]);
    let mut counted = Vec::new();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for (lists, reasons) in [
            ([&*plain, &*conditional], [None, Some("expired")]),
            ([&*conditional, &*plain], [Some("expired"), None]),
            ([&*conditional, &*other], [Some("expired"), Some("wrong_interface")]),
        ] {
            counted.push(kill_everywhere(&testbed, lists, reasons));
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let (kills, new) =
        counted.into_iter().reduce(|one, other| (one.0 + other.0, one.1 + other.1)).expect("some");
    let figures = Figures::of("conditions")
        .with("kills in a reload that changes conditions", kills)
        .with("left the new list", new)
        .with("denied packets sent", exchanged.sent_denied().packets)
        .with("of them delivered", 0)
        .with("allowed packets sent", exchanged.sent_allowed().packets)
        .with("of them lost", 0);
    println!("{figures}");
}
