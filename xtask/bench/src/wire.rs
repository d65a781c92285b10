//! Part 2: a flood of real frames over veth cables, each to a namespace with another firewall.
//!
//! The frames are made and sent by the kernel (`BPF_F_TEST_XDP_LIVE_FRAMES`), and taken in on the same CPU, in the same
//! thread: all that the CPU does is one packet after the other, from its making to its end. IP checksums are right, and
//! before anything is measured, it is made sure that the same frames are delivered where nobody stands in their way.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::interrupt;
use portguard_testkit::net::{End, Namespace, PacketSocket, Veth};

use super::Effort;
use super::bpf;
use super::cpu;
use super::ethtool::switch_gro_on;
use super::firewalls::{InstalledFirewall, Setting};
use super::frames::{Question, frame_to};
use super::lists::List;
use super::peers::INTERFACE;
use super::programs::{Object, Order, Program, Programs};
use super::results::{Family, Firewall, OnWire};
use super::spread::Spread;
use super::test_run::LIST;

/// The frames of the control, few enough for any queue.
const CONTROL: u32 = 64;

/// A firewall at the end of its own cable.
struct Station<'a> {
    namespace: &'a Namespace,
    installed: InstalledFirewall<'a>,
    /// The other end of the cable, where the frames are made.
    ifindex: u32,
    frame: Vec<u8>,
}

/// What a station has seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    received: u64,
    dropped: Option<u64>,
    delivered: u64,
}

/// What it took to send frames to a station.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

/// What one flood was like for a station.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Packets taken in, in a second.
    rate: f64,
    /// CPU time for a packet.
    nanoseconds: f64,
    /// The share of the frames that have arrived.
    arrived: f64,
}

/// Measures all firewalls.
pub(super) fn run(effort: &Effort, portguard: &Path, object: &Object) -> Result<Vec<OnWire>> {
    let lists = Family::ALL.map(|family| List::generate(family, LIST));
    let setting = Setting { portguard, object, lists: &lists };
    let mut programs = Programs::load(object, &lists)?;
    let sender = Namespace::new("sender")?;
    be_silent(&sender)?;
    let namespaces =
        (0..=Firewall::ALL.len()).map(|number| cable(&sender, number)).collect::<Result<Vec<_>>>()?;
    let sources = lists[0].strangers(effort.flood);
    let source = *sources.first().context("no sources")?;
    let mut stations = Vec::new();
    for (number, namespace) in namespaces.iter().enumerate() {
        // The last one is for the control.
        let installed = match Firewall::ALL.get(number) {
            Some(firewall) => InstalledFirewall::set_up(*firewall, &setting, namespace)
                .with_context(|| format!("cannot set up {firewall}"))?,
            None => InstalledFirewall::nobody(namespace),
        };
        let target = PacketSocket::open(namespace, INTERFACE)?.mac();
        let frame = without_udp_checksum(frame_to(source, Question::Dump, false, target));
        let ifindex = sender.ifindex(&peer(number))?;
        stations.push(Station { namespace, installed, ifindex, frame });
    }
    let control = stations.pop().context("no stations")?;
    programs.forge(&sources, effort.flood, Order::Random, &control.frame)?;
    let flood = programs.program("flood")?;
    let generator = Generator { sender: &sender, flood, cpu: effort.cpu };
    generator.check(&control)?;

    let mut frames = Vec::new();
    for station in &stations {
        let took = generator.send(station, effort.fewest)?;
        let fitting = f64::from(effort.fewest) * effort.flood_time.as_secs_f64() / took.wall.as_secs_f64();
        frames.push(fitting as u32);
    }
    let before = stations.iter().map(Station::seen).collect::<Result<Vec<_>>>()?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); stations.len()];
    for round in 0..effort.floods {
        // Another one begins each round.
        for index in (0..stations.len()).map(|index| (index + round) % stations.len()) {
            interrupt::check()?;
            samples[index].push(generator.sample(&stations[index], frames[index])?);
        }
    }
    let mut rows = Vec::new();
    for (index, (firewall, station)) in Firewall::ALL.into_iter().zip(&stations).enumerate() {
        let (received, counted) = station.since(before[index], firewall)?;
        let of = |figure: fn(&Sample) -> f64| Spread::of(samples[index].iter().map(figure));
        let pairs = samples[index].iter().zip(&samples[0]);
        let row = OnWire {
            firewall,
            packets_per_second: of(|sample| sample.rate),
            nanoseconds: of(|sample| sample.nanoseconds),
            ratio: Spread::of(pairs.map(|(sample, bare)| sample.nanoseconds / bare.nanoseconds)),
            arrived: of(|sample| sample.arrived),
            received,
            counted,
        };
        eprintln!(
            "  {firewall}: {:.2} M packets/s, {:.0} ns of CPU a packet, {:.2}x",
            row.packets_per_second.median / 1e6,
            row.nanoseconds.median,
            row.ratio.median
        );
        rows.push(row);
    }
    Ok(rows)
}

/// A namespace with an address to be delivered to, at the end of a cable from the sender.
fn cable(sender: &Namespace, number: usize) -> Result<Namespace> {
    let namespace = Namespace::new("station")?;
    let peer = peer(number);
    be_silent(&namespace)?;
    Veth::new()
        .connect(&End::new(&namespace, INTERFACE).address("192.0.2.1/24"), &End::new(sender, &peer))?;
    // So that answers have somewhere to go, and no source is a martian.
    namespace.ip(&format!("route add default dev {INTERFACE}"))?;
    switch_gro_on(&namespace, INTERFACE)?;
    switch_gro_on(sender, &peer)?;
    Ok(namespace)
}

/// Has a namespace say nothing by itself, and take packets from whatever source.
fn be_silent(namespace: &Namespace) -> Result<()> {
    namespace
        .run(|| -> std::io::Result<()> {
            for interface in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1")?;
                fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0")?;
            }
            Ok(())
        })
        .context("cannot set up a network namespace")
}

fn peer(number: usize) -> String {
    format!("peer{number}")
}

/// The checksum covers the source, which the forger changes; over IPv4 it may be left out.
fn without_udp_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    const CHECKSUM: std::ops::Range<usize> = 40..42;
    if let Some(checksum) = frame.get_mut(CHECKSUM) {
        checksum.fill(0);
    }
    frame
}

/// Where frames are made.
struct Generator<'a> {
    sender: &'a Namespace,
    flood: Program,
    cpu: usize,
}

impl Generator<'_> {
    /// Sends frames to a station.
    fn send(&self, station: &Station<'_>, frames: u32) -> Result<Took> {
        self.sender.run(|| {
            cpu::stay_on(self.cpu)?;
            let softirqs = cpu::softirq_thread(self.cpu)?;
            let before = cpu::thread_time()? + softirqs.time()?;
            let start = Instant::now();
            bpf::run_live(self.flood.fd.as_fd(), &station.frame, station.ifindex, frames)
                .context("cannot send frames")?;
            let wall = start.elapsed();
            // What the call has not taken in yet.
            std::thread::sleep(Duration::from_millis(2));
            Ok(Took { wall, cpu: cpu::thread_time()? + softirqs.time()? - before })
        })
    }

    /// Sends a flood to a station.
    fn sample(&self, station: &Station<'_>, frames: u32) -> Result<Sample> {
        let before = station.received()?;
        let took = self.send(station, frames)?;
        let received = (station.received()? - before) as f64;
        ensure!(received > 0.0, "no frame has arrived");
        Ok(Sample {
            rate: received / took.wall.as_secs_f64(),
            nanoseconds: took.cpu.as_nanos() as f64 / received,
            arrived: received / f64::from(frames),
        })
    }

    /// Makes sure that the frames would be delivered.
    fn check(&self, control: &Station<'_>) -> Result<()> {
        let before = control.seen()?;
        self.send(control, CONTROL)?;
        let after = control.seen()?;
        let (arrived, delivered) = (after.received - before.received, after.delivered - before.delivered);
        ensure!(
            arrived == u64::from(CONTROL) && delivered == arrived,
            "of {CONTROL} frames, {arrived} have arrived and {delivered} were delivered: they are not fit to measure with"
        );
        Ok(())
    }
}

impl Station<'_> {
    fn seen(&self) -> Result<Seen> {
        Ok(Seen {
            received: self.received()?,
            dropped: self.installed.dropped()?,
            delivered: self.delivered()?,
        })
    }

    /// How many packets it has taken in since, and has dropped by its own count. Fails unless these are all of them.
    fn since(&self, before: Seen, firewall: Firewall) -> Result<(u64, Option<u64>)> {
        let after = self.seen()?;
        let received = after.received - before.received;
        let counted = after.dropped.zip(before.dropped).map(|(after, before)| after - before);
        ensure!(after.delivered == before.delivered, "{firewall} has let packets through");
        if let Some(counted) = counted {
            ensure!(
                counted == received,
                "{received} packets have reached {firewall}, and its rule has dropped {counted}"
            );
        }
        Ok((received, counted))
    }

    /// The packets that the interface has taken in.
    fn received(&self) -> Result<u64> {
        let text = self.read("dev")?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(INTERFACE)?.strip_prefix(':'));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        packets.context("cannot read the interface's counters")
    }

    /// The datagrams that have reached UDP, whether somebody listens or not.
    fn delivered(&self) -> Result<u64> {
        let text = self.read("snmp")?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = lines.next().zip(lines.next()).context("cannot read the counters of UDP")?;
        let mut sum = 0;
        for (name, value) in names.split(' ').zip(values.split(' ')) {
            if matches!(name, "InDatagrams" | "NoPorts" | "InErrors") {
                sum += value.parse::<u64>().context("no number")?;
            }
        }
        Ok(sum)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/thread-self/net/{file}");
        self.namespace.run(|| fs::read_to_string(&path)).with_context(|| format!("cannot read {path}"))
    }
}
