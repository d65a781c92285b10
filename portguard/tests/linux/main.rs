//! Linux itself as the oracle: what it delivers to real sockets, without the guard and with it.
//!
//! The same random frames go to two hosts that are alike but for the guard on one of them. Of what arrives at the
//! host without it,
//! - nothing that is for port 111 and from a denied source may arrive at the guarded one, and
//! - everything else must.
//!
//! Beyond the header limits (more than 4 tags or 16 extension headers, as the oracle counts them) only the first holds.
//! `PORTGUARD_FRAMES` says how many frames, `PORTGUARD_SEED` which.

mod arrival;
mod paired_host;

use std::net::IpAddr;

use arrival::{Arrival, missing};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use paired_host::PairedHost;
use portguard_testkit::figures::Figures;
use portguard_testkit::oracle::{self, Datagram, Finding, Generator, is_listed};

/// Frames in an ordinary test run.
const FEW: u64 = 6_000;
/// Frames that are sent at once: the ring of a veth holds 256.
const BATCH: usize = 100;
/// Of a hundred datagrams, how many Linux must deliver without the guard, or the test is worth little.
const DELIVERED: u64 = 35;
/// Of so many datagrams, one may get lost for a reason that goes away when it is sent again.
const UNCONFIRMED: u64 = 10_000;

#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    datagrams: u64,
    beyond_limits: u64,
    delivered: u64,
    reassembled: u64,
    denied: u64,
    unconfirmed: u64,
}

/// Both hosts.
struct PairedHosts {
    open: PairedHost,
    guarded: PairedHost,
}

/// What a batch came to.
struct Heard {
    /// Arrived at the host without the guard.
    open: Vec<Arrival>,
    /// For port 111 from a denied source, and arrived at the guarded host.
    leaked: Vec<Arrival>,
    /// Should have arrived at the guarded host, and did not.
    lost: Vec<Arrival>,
}

impl PairedHosts {
    fn try_out(&mut self, datagrams: &[Datagram]) -> Heard {
        let (open, guarded) = (self.open.hear(datagrams), self.guarded.hear(datagrams));
        let leaked = guarded.iter().filter(|arrival| is_denied(arrival)).cloned().collect();
        let due = open.iter().filter(|arrival| !is_denied(arrival)).cloned().collect();
        Heard { leaked, lost: missing(due, guarded), open }
    }
}

fn is_denied(arrival: &Arrival) -> bool {
    arrival.port() == Some(portguard_common::PORT) && !is_listed(arrival.source())
}

fn is_beyond_limits(datagram: &Datagram) -> bool {
    datagram.iter().any(|frame| oracle::judge(frame).0 == Finding::TooManyHeaders)
}

#[test]
fn linux_delivers_the_same_but_for_port_111_to_denied_sources() {
    let (seed, frames) = (oracle::seed(), oracle::frames(FEW));
    let mut hosts = PairedHosts { open: PairedHost::open(), guarded: PairedHost::guarded() };
    stay_on_this_cpu();
    let mut generator = Generator::tame(seed);
    let mut tally = Tally::default();
    while tally.frames < frames {
        let (mut within, mut beyond) = (Vec::new(), Vec::new());
        let mut length = 0;
        while length < BATCH {
            let datagram = generator.datagram();
            length += datagram.len();
            if is_beyond_limits(&datagram) { &mut beyond } else { &mut within }.push(datagram);
        }
        tally.frames += length as u64;
        tally.datagrams += (within.len() + beyond.len()) as u64;
        tally.beyond_limits += beyond.len() as u64;

        let (whole, in_pieces): (Vec<_>, Vec<_>) =
            within.into_iter().partition(|datagram| datagram.len() == 1);
        prove(&mut hosts, &whole, seed, &mut tally);
        let before = tally.delivered;
        prove(&mut hosts, &in_pieces, seed, &mut tally);
        tally.reassembled += tally.delivered - before;
        let leaked = hosts.try_out(&beyond).leaked;
        assert_eq!(leaked, [], "PORTGUARD_SEED={seed}: leaked; sent were\n{}", hex(&beyond));
    }
    let figures = Figures::of("linux")
        .with("frames", tally.frames)
        .with("datagrams and segments", tally.datagrams)
        .with("beyond the header limits", tally.beyond_limits)
        .with("delivered without the guard", tally.delivered)
        .with("of them from fragments", tally.reassembled)
        .with("of them denied on port 111", tally.denied)
        .with("leaked", 0)
        .with("lost", 0)
        .with("missed once and delivered when sent again", tally.unconfirmed);
    println!("\n{figures}");
    assert!(100 * tally.delivered >= DELIVERED * tally.datagrams, "{figures}");
    assert!(100 * tally.reassembled >= tally.datagrams, "{figures}");
    assert!(100 * tally.denied >= 5 * tally.datagrams, "{figures}");
    assert!(tally.unconfirmed <= 1 + tally.datagrams / UNCONFIRMED, "{figures}");
}

/// Sends datagrams within the header limits to both hosts, and fails if one leaks, or if the guard takes one away.
fn prove(hosts: &mut PairedHosts, datagrams: &[Datagram], seed: u64, tally: &mut Tally) {
    let heard = hosts.try_out(datagrams);
    tally.delivered += heard.open.len() as u64;
    tally.denied += heard.open.iter().filter(|arrival| is_denied(arrival)).count() as u64;
    assert_eq!(heard.leaked, [], "PORTGUARD_SEED={seed}: leaked; sent were\n{}", hex(datagrams));
    if !heard.lost.is_empty() {
        confirm(hosts, datagrams, seed);
        tally.unconfirmed += heard.lost.len() as u64;
    }
}

/// Sends each datagram of a batch again, on its own, and fails with those that the guard takes away.
fn confirm(hosts: &mut PairedHosts, datagrams: &[Datagram], seed: u64) {
    for datagram in datagrams {
        let heard = hosts.try_out(std::slice::from_ref(datagram));
        assert!(
            heard.lost.is_empty() && heard.leaked.is_empty(),
            "PORTGUARD_SEED={seed}: lost {:?}, leaked {:?}; sent was\n{}",
            heard.lost,
            heard.leaked,
            hex(std::slice::from_ref(datagram))
        );
    }
}

/// Frames stay in order as long as they are sent on one CPU, whose queue they pass through.
fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

fn hex(datagrams: &[Datagram]) -> String {
    let line = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    datagrams.iter().flatten().map(line).collect()
}

#[test]
fn what_is_denied_is_what_no_entry_covers_on_the_one_port() {
    let arrival = |port, source: &str| Arrival::Datagram {
        port,
        source: (source.parse::<IpAddr>().unwrap(), 40_000),
        payload: vec![],
    };
    assert!(is_denied(&arrival(111, "203.0.113.9")));
    assert!(!is_denied(&arrival(112, "203.0.113.9")));
    assert!(!is_denied(&arrival(111, "192.0.2.10")));
}
