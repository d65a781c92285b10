//! `stats --reset` ends a set of counters: what they held has been written down before, and is written down once.

use std::fs::OpenOptions;
use std::io::pipe;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{PacketSocket, wait_until};

use crate::support::{
    DENIED, IFACE, PATIENCE, PORTGUARD, Portguard, SERVER, SingleHost, Stats, Testbed, Traffic,
    TrafficTotals, Until, flow, sum,
};

/// Where the figures cannot be written.
#[derive(Debug, Clone, Copy)]
enum Sink {
    /// A device that is full.
    Full,
    /// A pipe that nobody reads any more. Who leaves a pipe is told of no failure.
    Left,
}

impl Sink {
    fn open(self) -> Stdio {
        match self {
            Self::Full => OpenOptions::new().write(true).open("/dev/full").expect("/dev/full").into(),
            Self::Left => pipe().expect("a pipe").1.into(),
        }
    }

    /// Resets the counters, with the figures into this sink.
    #[track_caller]
    fn reset(self, portguard: Portguard<'_>, form: &[&str]) {
        let mut command = portguard.command([&["stats", "--reset"], form].concat());
        let output = command.stdout(self.open()).output().expect("running");
        if let Self::Full = self {
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{form:?}: {told}");
            assert!(told.contains("cannot write to standard output"), "{form:?}: {told}");
        }
    }
}

/// Traffic for a moment.
fn moment(testbed: &Testbed) -> TrafficTotals {
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, testbed);
        thread::sleep(Duration::from_millis(30));
        traffic.end()
    });
    exchanged.assert_sealed();
    exchanged
}

/// Traffic for a moment, which a guard has counted.
fn counted(testbed: &Testbed) -> TrafficTotals {
    let exchanged = moment(testbed);
    testbed.portguard().assert_counted(&exchanged);
    exchanged
}

fn assert_nothing_is_lost_into(sink: Sink) {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let exchanged = counted(&testbed);
    let before = portguard.status();
    for form in [&[][..], &["--json"], &["--csv"], &["--json", "--top", "0"], &[IFACE]] {
        sink.reset(portguard, form);
        let stats = portguard.stats();
        assert_eq!(stats.totals.allowed, exchanged.sent_allowed(), "{sink:?} {form:?}");
        assert_eq!(stats.totals.dropped, exchanged.sent_denied(), "{sink:?} {form:?}");
        assert_eq!(stats.by_source(), exchanged.denied().collect(), "{sink:?} {form:?}");
        assert_eq!(portguard.status().generation, before.generation, "{sink:?} {form:?}");
    }
    // The next reset that is read prints all of it, and leaves nothing.
    let [printed] = portguard.all_stats(&["--reset"]).try_into().expect("one guard");
    assert_eq!(
        (printed.totals.allowed, printed.totals.dropped),
        (exchanged.sent_allowed(), exchanged.sent_denied())
    );
    assert_eq!(portguard.stats().packets(), 0);
    testbed.machine.assert_tidy(1);
    assert_eq!(testbed.machine.earlier_sets(), 0);
}

/// Each reset that cannot be written keeps a set of counters; there is room for so many.
#[test]
fn resets_that_cannot_be_written_are_bounded_and_the_next_ones_make_room() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let mut sent = Vec::new();
    for _ in 0..10 {
        let exchanged = moment(&testbed);
        sent.push(exchanged.sent().packets);
        Sink::Full.reset(portguard, &[]);
    }
    assert_eq!(testbed.machine.earlier_sets(), 8);
    let all: u64 = sent.iter().sum();
    assert_eq!(portguard.stats_of(all).packets(), all);
    let told = portguard.run(&["stats", "--reset", "--json"]);
    assert!(
        told.stderr.contains("eth0: only the counters that earlier resets could not write are reset"),
        "{told:?}"
    );
    let left = portguard.stats().packets();
    assert!(left > 0 && left < all, "{left} of {all}");
    let [rest] = portguard.all_stats(&["--reset"]).try_into().expect("one guard");
    assert_eq!((rest.packets(), portguard.stats().packets()), (left, 0));
    assert_eq!(testbed.machine.earlier_sets(), 0);
}

#[test]
fn a_reset_onto_a_full_device_loses_nothing() {
    assert_nothing_is_lost_into(Sink::Full);
}

#[test]
fn a_reset_into_a_pipe_that_nobody_reads_loses_nothing() {
    assert_nothing_is_lost_into(Sink::Left);
}

#[test]
fn a_reset_of_several_guards_that_cannot_be_written_loses_the_figures_of_none() {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth1", "peer1");
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "eth1", "--allowlist", &host.list()]);
    let packet = Packet::udp(flow(DENIED[0], SERVER[0], 111), &[0; 4]);
    let mut sent = Vec::new();
    for (number, (interface, peer)) in (1..).zip([(IFACE, "peer0"), ("eth1", "peer1")]) {
        let open = |name| PacketSocket::open(&host.namespace, name).expect("a packet socket");
        let (from, to) = (open(peer), open(interface).mac());
        for _ in 0..number {
            from.send(&packet.frame(from.mac(), to, &[])).expect("sending");
        }
        sent.push((interface.to_owned(), number));
    }
    let counted = || -> Vec<(String, u64)> {
        let mut counted: Vec<(String, u64)> = portguard
            .all_stats(&[])
            .into_iter()
            .map(|stats| (stats.interface.clone(), stats.packets()))
            .collect();
        counted.sort_unstable_by_key(|(_, packets)| *packets);
        counted
    };
    wait_until("all is counted", PATIENCE, || Ok(counted() == sent)).expect("what was sent is counted");
    for form in [&[][..], &["--json"], &["eth1", IFACE]] {
        Sink::Full.reset(portguard, form);
        assert_eq!(counted(), sent, "{form:?}");
    }
    host.machine.assert_tidy(2);
}

#[test]
fn resets_at_the_same_time_print_each_packet_once() {
    const RESETS: usize = 10;
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let (exchanged, printed) = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        let looking = Until::default();
        let over = looking.over();
        // Somebody who only reads is in nobody's way.
        let reader = scope.spawn(move || {
            while !over.is_over() {
                portguard.stats();
            }
        });
        let resetting = [0, 1].map(|_| {
            scope.spawn(move || -> Vec<Stats> {
                (0..RESETS).flat_map(|_| portguard.all_stats(&["--reset"])).collect()
            })
        });
        let printed = resetting.map(|thread| thread.join().expect("resetting")).concat();
        drop(looking);
        reader.join().expect("reading");
        (traffic.end(), printed)
    });
    exchanged.assert_sealed();
    assert_eq!(printed.len(), 2 * RESETS);
    assert!(printed.iter().filter(|stats| stats.packets() > 0).count() > RESETS, "most held something");
    let earlier: u64 = printed.iter().map(Stats::packets).sum();
    assert!(earlier <= exchanged.sent().packets, "counted twice: {earlier} of {}", exchanged.sent().packets);
    let rest = portguard.stats_of(exchanged.sent().packets - earlier);
    let all: Vec<&Stats> = printed.iter().chain([&rest]).collect();
    assert_eq!(sum(all.iter().map(|stats| stats.totals.allowed)), exchanged.sent_allowed());
    assert_eq!(sum(all.iter().map(|stats| stats.totals.dropped)), exchanged.sent_denied());
    for (source, sent) in exchanged.denied() {
        let counts = all.iter().filter_map(|stats| stats.by_source().get(&source).copied());
        assert_eq!(sum(counts), sent, "{source}");
    }
    testbed.machine.assert_tidy(1);
}
