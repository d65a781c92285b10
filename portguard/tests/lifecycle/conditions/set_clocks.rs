//! The wall clock of a machine is set while a guard has an entry that ends. `cargo xtask vm-test` runs this in its machines, whose clock is
//! nobody's.

use std::env;
use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use portguard_testkit::net::wait_until;

use super::{entries, in_seconds, write};
use crate::support::{ALLOWED, IFACE, PATIENCE, PORTGUARD, Role, SERVER, Service, Testbed, port_111};

/// Is set where a test may set the clock.
const VARIABLE: &str = "PORTGUARD_TEST_MAY_SET_THE_CLOCK";
/// An entry never allows later than its end and so much, by the wall clock.
const SLACK: SignedDuration = SignedDuration::from_secs(2);
/// How long it takes for a packet to be delivered, on an emulated machine.
const DELIVERY: Duration = Duration::from_millis(500);
const HOUR: i64 = 3600;

/// Sets the clock right again when it is dropped.
struct Clock {
    begun: (SystemTime, Instant),
}

/// Fails where a test must not set the clock, or let the machine sleep.
fn require_a_machine_of_its_own() {
    assert!(
        env::var_os(VARIABLE).is_some(),
        "this test is about the whole machine, so it runs in machines of its own: cargo xtask vm-test"
    );
}

impl Clock {
    fn new() -> Self {
        require_a_machine_of_its_own();
        Self { begun: (SystemTime::now(), Instant::now()) }
    }

    /// Sets the clock, as `date -s` does.
    fn set(&self, time: Timestamp) {
        set(Duration::try_from(time.as_duration()).expect("after 1970"));
    }
}

fn set(since_1970: Duration) {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_1970)).expect("setting the clock");
}

impl Drop for Clock {
    fn drop(&mut self) {
        let now = self.begun.0 + self.begun.1.elapsed();
        set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    }
}

/// A client, and what listens to it.
struct Ends {
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Ends {
    fn of(testbed: &Testbed) -> Self {
        let receiver = testbed.server.run(|| UdpSocket::bind(port_111(SERVER[0]))).expect("port 111");
        receiver.set_read_timeout(Some(DELIVERY)).expect("SO_RCVTIMEO");
        let sender = testbed.host(Role::Allowed).run(|| UdpSocket::bind((ALLOWED[0], 0))).expect("a socket");
        sender.connect(port_111(SERVER[0])).expect("a route");
        Self { sender, receiver }
    }

    fn is_delivered(&self) -> bool {
        self.sender.send(&[0; 4]).expect("sending");
        self.receiver.recv(&mut [0; 64]).is_ok()
    }

    #[track_caller]
    fn until_delivered(&self, delivered: bool, why: &str) {
        wait_until(why, PATIENCE, || Ok(self.is_delivered() == delivered)).expect(why);
    }
}

#[test]
#[ignore = "sets the clock of the machine: cargo xtask vm-test"]
fn an_entry_ends_in_time_and_comes_back_when_the_clock_is_set() {
    let clock = Clock::new();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let ends = Ends::of(&testbed);
    let until = in_seconds(2 * HOUR);
    let list = write(&testbed, "until.yaml", &[entries(Role::Allowed, &[&format!("until: {until}")])]);
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert!(ends.is_delivered(), "before the end");

    for round in 0..2 {
        // Forward, to just before the end: 2 s after it at the latest, nothing is allowed any more.
        clock.set(until - SignedDuration::from_secs(1));
        let mut late = 0;
        while late < 4 {
            let begun = Timestamp::now();
            let delivered = ends.is_delivered();
            if begun >= until + SLACK {
                assert!(!delivered, "round {round}: at {begun}, and the entry ended at {until}");
                late += 1;
            }
        }
        // Back: the entry allows again.
        clock.set(until - SignedDuration::from_secs(2 * HOUR));
        ends.until_delivered(true, "after a step back, with a service");
        // Forward, past the end, and back.
        clock.set(until + SignedDuration::from_secs(HOUR));
        ends.until_delivered(false, "after a step past the end, with a service");
        clock.set(until - SignedDuration::from_secs(HOUR));
        ends.until_delivered(true, "after another step back, with a service");
    }
    service.until_said("eth0: the clock was set, so deadlines of entries have moved by ");
    assert_eq!(portguard.status().allowlist.deadlines_off_by, 0);
    assert_eq!(portguard.status().generation, 1, "no list was loaded");

    // Without a service, the next command that changes anything.
    service.signal(Signal::SIGTERM);
    service.ended();
    for (time, delivered) in [
        (until + SignedDuration::from_secs(HOUR), false),
        (until - SignedDuration::from_secs(HOUR), true),
        (until + SignedDuration::from_secs(1), false),
    ] {
        clock.set(time);
        assert_eq!(ends.is_delivered(), !delivered, "nobody has set the deadline right");
        let off_by = portguard.status().allowlist.deadlines_off_by;
        assert!(off_by > HOUR as u64 / 2, "{off_by}");
        let told = portguard.run(&["stats", "--reset"]);
        assert!(told.code == 0 && told.stderr.contains("the clock was set"), "{told:?}");
        assert_eq!(ends.is_delivered(), delivered, "after the next command");
        assert_eq!(portguard.status().allowlist.deadlines_off_by, 0);
    }
    drop(clock);
}

/// How long the machine sleeps, in seconds.
const SLEEP: i64 = 12;

/// Suspends the machine to memory, until its clock wakes it.
fn sleep() {
    let states = fs::read_to_string("/sys/power/state").unwrap_or_default();
    assert!(states.contains("mem"), "not supported by this kernel: it cannot be suspended");
    fs::write("/sys/class/rtc/rtc0/wakealarm", format!("+{SLEEP}")).expect("an alarm");
    fs::write("/sys/power/state", "mem").expect("suspending the machine");
}

#[test]
#[ignore = "suspends the machine: cargo xtask vm-test"]
fn an_entry_ends_while_its_machine_sleeps() {
    require_a_machine_of_its_own();
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let ends = Ends::of(&testbed);
    let list =
        |until| write(&testbed, "until.yaml", &[entries(Role::Allowed, &[&format!("until: {until}")])]);
    let path = list(in_seconds(HOUR));
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
    // The end is within the sleep: a loaded machine may need several attempts until it is not before.
    for _ in 0..10 {
        let until = in_seconds(SLEEP - 2);
        list(until);
        portguard.ok(&["reload", IFACE]);
        let is_delivered = ends.is_delivered();
        let asleep = Timestamp::now();
        sleep();
        let awake = Timestamp::now();
        if !is_delivered || asleep >= until - SignedDuration::from_secs(3) {
            continue;
        }
        assert!(awake >= until, "it slept from {asleep} to {awake}, and the entry ends at {until}");
        let delivered = ends.is_delivered();
        assert!(!delivered || awake < until + SLACK, "at {awake}, and the entry ended at {until}");
        ends.until_delivered(false, "after the end");
        assert!(portguard.status().allowlist.deadlines_off_by <= 1, "the clocks have slept alike");
        return;
    }
    panic!("this machine takes too long to load a list");
}
