//! A wall clock that is set: deadlines in the kernel follow it.

use nix::sys::signal::Signal;
use portguard_testkit::net::{RpcServices, rpc};

use super::{entries, in_seconds, write};
use crate::confirm::kill_guardian;
use crate::support::{
    IFACE, Output, PORTGUARD, Role, SERVER, SILENCE, Service, ShiftedClock, Testbed, port_111,
};

/// How far a clock is off, in seconds.
const HOUR: i64 = 3600;
/// A test takes less, in seconds.
const A_TEST: u64 = 300;

/// A list whose entry ends half an hour before or after now, and a portguard whose clock, off by an hour, takes it for the opposite.
struct Step {
    off: i64,
    until: i64,
}

const STEPS: [Step; 2] = [Step { off: HOUR, until: HOUR / 2 }, Step { off: -HOUR, until: -HOUR / 2 }];

impl Step {
    fn list(&self, testbed: &Testbed) -> String {
        let until = format!("until: {}", in_seconds(self.until));
        write(testbed, "step.yaml", &[entries(Role::Allowed, &[&until])])
    }

    /// Attaches a guard by the clock that is off. Returns the path of its list.
    #[track_caller]
    fn attach(&self, testbed: &Testbed, clock: &ShiftedClock) -> String {
        let list = self.list(testbed);
        let attach = ["attach", IFACE, "--allowlist", &list];
        let told = Output::of(&mut clock.command(testbed.portguard(), &attach, self.off));
        assert_eq!(told.code, 0, "{told:?}");
        list
    }

    /// Whether the client must be answered when the deadlines are right.
    fn is_right_to_answer(&self) -> bool {
        self.until > 0
    }
}

fn is_answered(testbed: &Testbed) -> bool {
    let ask = || rpc::answers_null(port_111(SERVER[0]), SILENCE).expect("asking");
    testbed.host(Role::Allowed).run(ask)
}

/// Asserts that `status` tells that deadlines are off by half an hour, and does nothing about it.
#[track_caller]
fn assert_off(testbed: &Testbed) {
    let portguard = testbed.portguard();
    for _ in 0..2 {
        let off_by = portguard.status().allowlist.deadlines_off_by;
        let expected = HOUR as u64 / 2;
        assert!((expected - A_TEST..=expected + A_TEST).contains(&off_by), "off by {off_by} s");
        let text = portguard.ok(&["status"]);
        assert!(text.contains("  deadlines  OFF BY ") && text.contains("portguard reload eth0"), "{text}");
    }
}

#[track_caller]
fn assert_right(testbed: &Testbed, after: &str) {
    let portguard = testbed.portguard();
    assert_eq!(portguard.status().allowlist.deadlines_off_by, 0, "{after}");
    assert!(!portguard.ok(&["status"]).contains("OFF BY"), "{after}");
}

#[test]
fn the_next_command_that_changes_anything_sets_deadlines_right_and_says_so() {
    const CONFIRM: &[&str] = &["confirm", IFACE];
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    for step in STEPS {
        let list = step.list(&testbed);
        for command in [&["reload"][..], &["attach", IFACE, "--audit"], &["stats", "--reset"], CONFIRM] {
            let mut attach = vec!["attach", IFACE, "--allowlist", &list];
            if command == CONFIRM {
                attach.push("--confirm=600");
            }
            let told = Output::of(&mut clock.command(portguard, &attach, step.off));
            assert_eq!(told.code, 0, "{told:?}");
            assert_off(&testbed);
            assert_eq!(is_answered(&testbed), !step.is_right_to_answer(), "by the clock that is off");
            // Readers tell what is in force, and change nothing.
            portguard.run(&["explain", "192.0.2.10"]);
            portguard.ok(&["stats"]);
            assert_off(&testbed);
            let told = portguard.run(command);
            let note = "eth0: the clock was set, so deadlines of entries have moved by ";
            assert!(told.code == 0 && told.stderr.contains(note), "{command:?}: {told:?}");
            if command.contains(&"--audit") {
                portguard.ok(&["attach", IFACE, "--enforce"]);
            }
            assert_right(&testbed, command[0]);
            assert_eq!(is_answered(&testbed), step.is_right_to_answer(), "after {command:?}");
            // It is told once.
            let again = portguard.run(&["stats", "--reset"]);
            assert!(again.code == 0 && !again.stderr.contains("the clock was set"), "{again:?}");
            portguard.ok(&["detach", IFACE]);
        }
    }
}

#[test]
fn a_service_sets_deadlines_right_at_its_next_check() {
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    for step in STEPS {
        let service = Service::start(portguard, &[IFACE, "--allowlist", &step.list(&testbed)]);
        assert_eq!(is_answered(&testbed), step.is_right_to_answer());
        let generation = portguard.status().generation;
        // This command takes the lock, and has another clock than all others.
        let told = Output::of(&mut clock.command(portguard, &["stats", "--reset"], step.off));
        assert!(told.code == 0 && told.stderr.contains("deadlines of entries have moved by"), "{told:?}");
        service.until_said("eth0: the clock was set, so deadlines of entries have moved by ");
        assert_right(&testbed, "a check");
        assert_eq!(is_answered(&testbed), step.is_right_to_answer());
        assert_eq!(portguard.status().generation, generation, "no list was loaded");
        drop(service);
        portguard.ok(&["detach", IFACE]);
    }
}

/// What comes back had its deadlines computed before the trial, by the clock of then.
#[test]
fn a_change_that_is_taken_back_has_deadlines_by_the_clock_of_then() {
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    for step in STEPS {
        let list = step.attach(&testbed, &clock);
        // By the clock that is off, so that nothing corrects what will come back; its guardian has that clock, too.
        let trial = ["attach", IFACE, "--audit", "--confirm=600"];
        let told = Output::of(&mut clock.command(portguard, &trial, step.off));
        assert_eq!(told.code, 0, "{told:?}");
        kill_guardian(&testbed);
        // The service corrects what is on trial. At its end it takes the change back.
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        assert!(!portguard.status().enforcing);
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
        assert!(portguard.status().enforcing, "{}", service.said());
        assert_right(&testbed, "what came back");
        assert_eq!(is_answered(&testbed), step.is_right_to_answer());
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn a_reload_sets_deadlines_right_also_when_the_file_is_broken() {
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    for step in STEPS {
        step.attach(&testbed, &clock);
        testbed.lists.write_text("step.yaml", "allow: [");
        assert_off(&testbed);
        let told = portguard.run(&["reload"]);
        assert_eq!(told.code, 3, "{told:?}");
        assert!(told.stderr.contains("the clock was set"), "{told:?}");
        assert_right(&testbed, "a reload of a broken file");
        portguard.ok(&["detach", IFACE]);
    }
}

/// A service that starts behind one whose clock was off.
#[test]
fn a_service_that_starts_sets_deadlines_right() {
    let clock = ShiftedClock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    for step in STEPS {
        let list = step.attach(&testbed, &clock);
        assert_off(&testbed);
        let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        assert!(service.said().contains("the clock was set"), "{}", service.said());
        assert_right(&testbed, "the start of a service");
        drop(service);
        portguard.ok(&["detach", IFACE]);
    }
}
