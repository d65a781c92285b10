//! A guard in each mode, on each kind of interface that every kernel has: what `cargo xtask vm-test` tries on other
//! kernels, beside the cases about reload, upgrade and detach.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Cards, PacketSocket};

use crate::support::{
    ALLOWED, DENIED, IFACE, Lists, Machine, PATIENCE, PORTGUARD, SERVER, Testbed, Traffic, flow, program_on,
    under_traffic,
};

fn on_veth(mode: &str) {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list(), "--mode", mode]);
    let status = portguard.status();
    assert_eq!((status.mode.as_str(), status.enforcing), (mode, true));
    // For the matrix of `cargo xtask vm-test`.
    println!("fact: program = `{}`", status.program.name);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(300));
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
}

#[test]
fn native_mode_on_veth() {
    on_veth("native");
}

#[test]
fn generic_mode_on_veth() {
    on_veth("generic");
}

/// The kernel lets no native and no generic program be active at once: a change would open the port for a moment.
#[test]
fn a_change_of_the_mode_is_refused_and_the_port_is_never_open() {
    for (mode, other) in [("native", "generic"), ("generic", "native")] {
        let testbed = Testbed::new(PORTGUARD);
        let portguard = testbed.portguard();
        portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list(), "--mode", mode]);
        let before = portguard.status();
        let ((), exchanged) = under_traffic(&testbed, || {
            let told = portguard.fails(1, &["attach", IFACE, "--mode", other]);
            assert!(told.contains(&format!("cannot change the mode from {mode} to {other}")), "{told}");
        });
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        assert_eq!(portguard.status(), before);
    }
}

/// How many packets are sent.
const PACKETS: u64 = 50;

/// Sends packets for port 111 from one card to the other; returns how many get past the guard.
fn get_past(near: &PacketSocket, far: &PacketSocket, source: IpAddr) -> u64 {
    let frame = |port| Packet::udp(flow(source, SERVER[0], port), &[0; 40]).frame(far.mac(), near.mac(), &[]);
    // Nobody drops the second one, and it does not overtake the first. With no more than these two on their way, the
    // wire of an emulated machine has room for them, too.
    let (asked, last) = (frame(111), frame(112));
    let mut frames = 0;
    for _ in 0..PACKETS {
        far.send(&asked).expect("sending");
        far.send(&last).expect("sending");
        loop {
            let frame = near.receive(PATIENCE).expect("receiving").expect("the packet for another port");
            if frame == last {
                break;
            }
            frames += u64::from(frame == asked);
        }
    }
    frames
}

fn on_virtio_net(mode: &str) {
    let cards = Cards::take().expect("two cards");
    let (machine, lists) = (Machine::new(PORTGUARD), Lists::new());
    let portguard = machine.portguard(&cards.near);
    let [near, far] =
        [&cards.near, &cards.far].map(|host| PacketSocket::open(host, IFACE).expect("a socket"));
    let past = |source| get_past(&near, &far, source);
    let (allowed, denied) = (ALLOWED[0], DENIED[0]);
    let list = lists.write("allowlist.yaml", ["192.0.2.0/24"]);
    let both = lists.write("both.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    assert_eq!((past(allowed), past(denied)), (PACKETS, PACKETS), "without a guard");

    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--mode", mode]);
    let first = portguard.status();
    assert_eq!((first.mode.as_str(), first.enforcing), (mode, true));
    assert_eq!(program_on(&cards.near, IFACE), Some(first.program.id));
    assert_eq!((past(allowed), past(denied)), (PACKETS, 0), "attached");

    portguard.ok(&["reload", "--allowlist", &both]);
    assert_eq!((past(allowed), past(denied)), (PACKETS, PACKETS), "reloaded with a list that has both");

    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_ne!(portguard.status().program.id, first.program.id, "upgraded");
    assert_eq!((past(allowed), past(denied)), (PACKETS, 0), "upgraded, with the first list");
    let totals = portguard.stats().totals;
    assert_eq!((totals.allowed.packets, totals.dropped.packets), (4 * PACKETS, 2 * PACKETS), "counters kept");

    portguard.ok(&["detach", IFACE]);
    assert_eq!(program_on(&cards.near, IFACE), None);
    assert_eq!((past(allowed), past(denied)), (PACKETS, PACKETS), "detached");
}

#[test]
#[ignore = "needs two network cards to itself; cargo xtask vm-test has them, and runs it"]
fn native_mode_on_virtio_net() {
    on_virtio_net("native");
}

#[test]
#[ignore = "needs two network cards to itself; cargo xtask vm-test has them, and runs it"]
fn generic_mode_on_virtio_net() {
    on_virtio_net("generic");
}
