//! The order of a guard is changed while it works: from audit to enforcing and back, each time with another list.
//!
//! The list that goes with audit does not cover the allowed source, so that a packet of it is lost if the guard ever
//! enforces that list: towards enforcing the list goes first, and then the program; towards audit the program goes
//! first. Between the two there is one more state, in which the guard only counts, with the list of enforcing.

use std::thread;

use portguard_testkit::figures::Figures;

use super::{SAMPLE, TIDY, assert_attached, testbed};
use crate::support::{
    DENIED, IFACE, Role, Status, Testbed, Traced, Traffic, TrafficTotals, burst, chosen, is_long, run_to,
    system_calls,
};

/// How many datagrams of each family a source that is not on the list sends at once.
const BURST: u32 = 8;

/// What a guard does, and with which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Counts only, with a list that does not cover the allowed source.
    Audit,
    /// Counts only, with the list that does.
    Between,
    /// Drops, with the list that does.
    Enforcing,
}

/// A guard that is given one order after the other.
struct Play<'a> {
    testbed: &'a Testbed,
    audit: String,
    enforcing: String,
    /// What was sent while the guard was enforcing, of each family; and so must not have been delivered.
    denied: u64,
}

impl<'a> Play<'a> {
    /// Begins in audit mode.
    fn new(testbed: &'a Testbed) -> Self {
        let audit = testbed.lists.write("audit.yaml", ["203.0.113.0/24", "2001:db8:113::/48"]);
        let enforcing = testbed.lists.write("enforcing.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
        testbed.portguard().ok(&["attach", IFACE, "--audit", "--allowlist", &audit]);
        Self { testbed, audit, enforcing, denied: 0 }
    }

    /// The command that orders this.
    fn order(&self, state: State) -> [&str; 5] {
        match state {
            State::Audit => ["attach", IFACE, "--audit", "--allowlist", &self.audit],
            State::Between => ["attach", IFACE, "--audit", "--allowlist", &self.enforcing],
            State::Enforcing => ["attach", IFACE, "--enforce", "--allowlist", &self.enforcing],
        }
    }

    /// Orders it.
    #[track_caller]
    fn give(&self, state: State) {
        self.testbed.portguard().ok(&self.order(state));
    }

    /// What `status` and the kernel say; a guard that enforces is tried by a source that is not on the list.
    #[track_caller]
    fn state(&mut self, after: &str) -> State {
        let Status { enforcing, allowlist, .. } = assert_attached(self.testbed, after);
        let state = match (enforcing, allowlist.path == self.enforcing) {
            (false, false) => State::Audit,
            (false, true) => State::Between,
            (true, true) => State::Enforcing,
            (true, false) => panic!("{after}: enforces {}", allowlist.path),
        };
        assert_eq!((allowlist.prefixes_v4, allowlist.prefixes_v6), (1, 1), "{after}");
        if state == State::Enforcing {
            burst(self.testbed, Role::Denied, BURST);
            self.denied += u64::from(BURST);
            self.wait_for_bursts();
        }
        state
    }

    /// Waits until the bursts are judged, before the guard is told to let something through.
    #[track_caller]
    fn wait_for_bursts(&self) {
        let portguard = self.testbed.portguard();
        let judged = || {
            let stats = portguard.stats().by_source();
            DENIED.iter().all(|source| stats.get(source).is_some_and(|count| count.packets >= self.denied))
        };
        let waited =
            portguard_testkit::net::wait_until("bursts are counted", crate::support::PATIENCE, || {
                Ok(judged())
            });
        assert!(waited.is_ok(), "{waited:?}: {:?}", portguard.stats());
    }

    /// Switches from audit to enforcing and back.
    fn switch(&mut self) {
        for state in [State::Enforcing, State::Audit] {
            self.give(state);
            assert_eq!(self.state("a switch"), state);
        }
    }

    /// Kills the command that leads from one state to the other at each of its system calls.
    fn kill(&mut self, [from, to]: [State; 2], left: &mut Left) {
        let portguard = self.testbed.portguard();
        self.give(from);
        let calls = system_calls(&mut portguard.command(self.order(to)));
        for (kills, call) in (1_u64..).zip(chosen(calls.clone(), SAMPLE)) {
            // Also if it is there already: what the last kill has left makes the next command longer.
            self.give(from);
            match run_to(&mut portguard.command(self.order(to)), call) {
                Traced::Killed => left.kills += 1,
                // One call more or less: what it finds differs from time to time.
                Traced::Ended(code) => assert_eq!(code, 0, "to {to:?}, at call {call}"),
            }
            let state = self.state(&format!("to {to:?}, killed at call {call} of {}", calls.end));
            match state {
                _ if state == from => left.old += 1,
                _ if state == to => left.new += 1,
                _ => left.between += 1,
            }
            if kills % TIDY == 0 {
                self.give(to);
                self.testbed.machine.assert_tidy(1);
            }
        }
        self.give(to);
        assert_eq!(self.state("the last kill"), to);
        self.testbed.machine.assert_tidy(1);
    }

    /// Asserts that of the allowed packets none was lost, and of what was sent to a guard that enforced nothing was
    /// delivered; and that each was counted once.
    fn assert_accounted(&self, exchanged: &TrafficTotals) {
        exchanged.assert_only_allowed_delivered();
        let denied = DENIED.len() as u64 * self.denied;
        let stats = self.testbed.portguard().stats_of(exchanged.sent_allowed().packets + denied);
        assert_eq!(stats.totals.dropped.packets, denied, "dropped: {:?}", stats.totals);
        let counted = stats.totals.allowed.packets + stats.totals.would_drop.packets;
        assert_eq!(
            counted,
            exchanged.sent_allowed().packets,
            "allowed, or counted in audit mode: {:?}",
            stats.totals
        );
    }
}

/// What kills have left behind.
#[derive(Debug, Default)]
struct Left {
    kills: u64,
    old: u64,
    between: u64,
    new: u64,
}

#[test]
fn from_audit_to_enforcing_and_back_nothing_is_lost_and_nothing_leaks() {
    let switches = if is_long() { 200 } else { 8 };
    let testbed = testbed();
    let mut play = Play::new(&testbed);
    let mut left = Left::default();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::of(&[Role::Allowed], scope, &testbed);
        for _ in 0..switches {
            play.switch();
        }
        play.kill([State::Audit, State::Enforcing], &mut left);
        play.kill([State::Enforcing, State::Audit], &mut left);
        traffic.end()
    });
    play.assert_accounted(&exchanged);
    testbed.machine.assert_tidy(1);
    assert!(left.old > 0 && left.new > 0, "{left:?}");
    assert!(!is_long() || left.between > 0, "the state between is one that a kill leaves: {left:?}");
    let figures = Figures::of("orders")
        .with("switches from audit to enforcing and back", switches)
        .with("kills in a switch", left.kills)
        .with("left the old order", left.old)
        .with("left the list of enforcing in audit mode", left.between)
        .with("left the new order", left.new)
        .with("denied packets sent to a guard that enforced", DENIED.len() as u64 * play.denied)
        .with("of them delivered", 0)
        .with("allowed packets sent", exchanged.sent_allowed().packets)
        .with("of them lost", 0);
    println!("{figures}");
}
