//! The service for a long time, under a flood of forged sources, with reloads.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portguard_testkit::figures::Figures;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, wait_until};

use super::testbed;
use crate::support::{ALLOWED, IFACE, PATIENCE, Role, SERVER, Service, Testbed, flow, lost_by};

/// How long it takes in `cargo xtask soak`, in seconds.
const SECONDS: &str = "PORTGUARD_SOAK";
/// How often the list is changed.
const RELOAD: Duration = Duration::from_millis(500);
/// How much the memory may vary, in KiB: a status line is made of the whole source table.
const SLACK: u64 = 16 << 10;
/// The most memory that the service may take for a short list, in KiB.
const BOUND: u64 = 96 << 10;
/// The most memory that a trie with a few entries may take, in bytes.
const MOST_OF_TRIE: u64 = 1 << 10;
/// In so many seconds the source tables are full.
const FILLED: u64 = 60;
/// Frames between two pauses.
const BATCH: u32 = 64;
const PAUSE: Duration = Duration::from_micros(500);

/// The memory of a process of its own, in KiB: the maps of the guard are not.
fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the service is there");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("KiB")
}

/// What its descriptors stand for.
fn descriptors_of(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    // One that is closed meanwhile leads nowhere.
    let mut what: Vec<String> =
        open.filter_map(|it| Some(fs::read_link(it.path()).ok()?.display().to_string())).collect();
    what.sort_unstable();
    what
}

/// The size in the kernel of each pinned map, by the name of its pin.
fn maps(testbed: &Testbed) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for pin in testbed.machine.pins() {
        let path = format!("/sys/fs/bpf/portguard/{pin}");
        let mut bpftool = std::process::Command::new("bpftool");
        bpftool.args(["--json", "map", "show", "pinned", &path]);
        let Ok(shown) = portguard_testkit::net::run(testbed.machine.mounts().enter(&mut bpftool)) else {
            continue;
        };
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
        if let Some(bytes) = shown["bytes_memlock"].as_u64() {
            let name = pin.rsplit('/').next().unwrap_or_default();
            sizes.insert(name.to_owned(), bytes);
        }
    }
    sizes
}

#[test]
fn a_long_flood_with_reloads_leaves_everything_flat_and_every_sum_exact() {
    let seconds = env::var(SECONDS).map_or(3, |seconds| seconds.parse().expect("a number of seconds"));
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let pid = service.id();
    // The fewest of several looks: it may be at work on something.
    let at_rest = (0..20).map(|_| {
        thread::sleep(Duration::from_millis(10));
        descriptors_of(pid)
    });
    let at_rest = at_rest.min_by_key(Vec::len).expect("a look");
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("an attacker");
    let lists = [&["192.0.2.0/24", "2001:db8::/48"][..], &["192.0.2.10", "2001:db8::/48", "10.0.0.0/8"]];

    let (mut denied, mut allowed, mut reloads, mut number) = (0_u64, 0_u64, 0_usize, 0_u32);
    let mut first = None;
    let lost = || {
        lost_by(testbed.host(Role::Denied).namespace(), IFACE) + lost_by(testbed.switch.namespace(), "server")
    };
    let lost_before = lost();
    let start = Instant::now();
    let mut next = start;
    let mut most = 0;
    let mut sizes = BTreeMap::new();
    while start.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..BATCH {
            number = number.wrapping_add(1);
            // 2^24 sources that are on no list, of either family.
            let source = match number % 2 {
                0 => IpAddr::V4(Ipv4Addr::from(0x6400_0000 | number.wrapping_mul(0x9e37_79b1) >> 8)),
                _ => IpAddr::V6(Ipv6Addr::from(0x2001_0db8_bad0_u128 << 80 | u128::from(number >> 1))),
            };
            let to = SERVER[usize::from(source.is_ipv6())];
            forger.send(&Packet::udp(flow(source, to, 111), &number.to_be_bytes())).expect("a frame");
            denied += 1;
        }
        let family = number as usize / BATCH as usize % 2;
        let packet = Packet::udp(flow(ALLOWED[family], SERVER[family], 111), &number.to_be_bytes());
        forger.send(&packet).expect("a frame");
        allowed += 1;
        if Instant::now() >= next {
            next += RELOAD;
            reloads += 1;
            testbed.lists.write("allowlist.yaml", lists[reloads % 2]);
            // Who does not listen keeps it waiting, with a socket.
            service.told();
            let memory = memory_of(pid);
            most = most.max(descriptors_of(pid).len());
            // By now the tables are full, and lists have been read.
            if first.is_none() && start.elapsed() >= Duration::from_secs(seconds) / 2 {
                first = Some(memory);
                sizes = maps(&testbed);
            }
        }
        // The ring of a veth has room for some hundred frames.
        thread::sleep(PAUSE);
    }
    // What a cable had no room for says the cable, but not of whom it was.
    let lost = lost() - lost_before;
    let stats = portguard.stats_of(allowed + denied - lost);
    let (passed, dropped) = (stats.totals.allowed.packets, stats.totals.by_reason.of("not_allowed").packets);
    assert_eq!(passed + dropped + lost, allowed + denied, "to the last packet");
    assert!(passed <= allowed && dropped <= denied, "{passed} of {allowed}, {dropped} of {denied}");
    let first_memory = first.expect("a look at half time");
    let memory = memory_of(pid);
    assert!(memory <= BOUND, "{memory} KiB");
    // In a short run the tables are not full at half time; and an allocator keeps what it was given for the next list.
    if seconds >= FILLED {
        assert!(memory <= first_memory + SLACK, "{first_memory} KiB have become {memory} KiB");
    }
    // Several writings may be one reload on a busy machine, but not many.
    let generation = portguard.status().generation;
    assert!(generation * 10 > reloads as u64, "{reloads} lists were written, and {generation} were loaded");
    service
        .wait_until("the last list is in force", || portguard.status().allowlist.file.state == "unchanged");
    // The one that was read last has been closed, as all before it have.
    service.told();
    let closed =
        wait_until("no more than at the start", PATIENCE, || Ok(descriptors_of(pid).len() <= at_rest.len()));
    let at_the_end = descriptors_of(pid);
    assert!(closed.is_ok(), "at the start {at_rest:#?}, at the end {at_the_end:#?}");
    assert!(most <= at_rest.len() + 16, "{most}: while a list is read, a few more than {at_rest:?}");
    let last = maps(&testbed);
    for (name, size) in &sizes {
        if name.starts_with("LIST_") {
            // A trie has the entries of the list in force, and of two lists for a time: here five at most.
            assert!(last[name] <= MOST_OF_TRIE, "{name}: {} bytes", last[name]);
        } else {
            assert_eq!(last.get(name), Some(size), "{name}");
        }
    }
    let bytes: u64 = last.values().sum();
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    testbed.machine.assert_tidy(1);
    let figures = Figures::of("soak")
        .with("seconds", seconds)
        .with("forged packets", denied)
        .with("counted as dropped", dropped)
        .with("allowed packets", allowed)
        .with("counted as allowed", passed)
        .with("packets that the cable had no room for", lost)
        .with("lists written", reloads as u64)
        .with("lists loaded", generation)
        .with("KiB of memory at half time", first_memory)
        .with("KiB of memory at the end", memory)
        .with("descriptors at the start", at_rest.len() as u64)
        .with("descriptors at the end", at_the_end.len() as u64)
        .with("KiB of maps", bytes / 1024);
    println!("{figures}");
}
