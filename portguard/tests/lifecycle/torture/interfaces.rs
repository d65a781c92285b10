//! Interfaces that are deleted, made again, renamed and moved, under a service that keeps them.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portguard_testkit::figures::Figures;
use portguard_testkit::net::{End, Namespace, Veth, wait_until};

use super::assert_guarded;
use crate::support::{
    IFACE, PATIENCE, PORTGUARD, Role, SERVER, Service, Testbed, Traffic, is_long, program_on,
};

/// A port that is nobody's business.
const UNGUARDED: u16 = 9;

/// Gives the server a new card, which is still down.
fn plug(testbed: &Testbed) {
    let switch = testbed.switch.namespace();
    testbed
        .server
        .namespace()
        .ip(&format!("link add {IFACE} type veth peer name server netns {}", switch.name()))
        .expect("a cable");
    switch.ip("link set server master br0\nlink set server up").expect("the switch's port");
}

/// Brings the card up, with its addresses.
fn bring_up(testbed: &Testbed) {
    let namespace = testbed.server.namespace();
    namespace.ip(&format!("link set {IFACE} up")).expect("up");
    for address in SERVER {
        let length = if address.is_ipv4() { 32 } else { 128 };
        namespace.add_address(IFACE, &format!("{address}/{length}")).expect("an address");
    }
    for network in portguard_testkit::net::NETWORKS {
        namespace.ip(&format!("route replace {network} dev {IFACE}")).expect("a route");
    }
    // A new card has a new address, and the switch takes its time to notice that its port is up again.
    for role in Role::CLIENTS {
        testbed.host(role).namespace().ip("neigh flush all").expect("forgetting the old one");
        for (from, to) in role.addresses().into_iter().zip(SERVER) {
            let here = testbed.host(role).run(|| UdpSocket::bind((from, 0))).expect("a socket");
            let there = testbed.server.run(|| UdpSocket::bind((to, UNGUARDED))).expect("a socket");
            there.set_read_timeout(Some(Duration::from_millis(20))).expect("SO_RCVTIMEO");
            wait_until("the server can be reached", PATIENCE, || {
                // While nobody answers for the address, this may fail.
                let _ = here.send_to(b"there?", (to, UNGUARDED));
                Ok(there.recv(&mut [0; 8]).is_ok())
            })
            .unwrap_or_else(|error| panic!("{error:#}"));
        }
    }
}

#[test]
fn an_interface_that_comes_back_is_guarded_before_it_is_up() {
    let rounds: u64 = if is_long() { 100 } else { 3 };
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let (mut denied, mut allowed, mut longest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        testbed.server.namespace().ip(&format!("link del {IFACE}")).expect("unplugging");
        let start = Instant::now();
        plug(&testbed);
        service.wait_until("the guard is back", || program_on(testbed.server.namespace(), IFACE).is_some());
        longest = longest.max(start.elapsed());
        bring_up(&testbed);
        let exchanged = thread::scope(|scope| {
            let traffic = Traffic::start(scope, &testbed);
            thread::sleep(Duration::from_millis(20));
            traffic.end()
        });
        exchanged.assert_sealed();
        assert_guarded(&testbed, &format!("made again {round} times"));
        portguard.assert_counted(&exchanged);
        denied += exchanged.sent_denied().packets;
        allowed += exchanged.sent_allowed().packets;
    }
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    testbed.machine.assert_tidy(1);
    let figures = Figures::of("interfaces")
        .with("times deleted and made again", rounds)
        .with("milliseconds without a guard at the longest", longest.as_millis() as u64)
        .with("denied packets sent", denied)
        .with("of them delivered", 0)
        .with("allowed packets sent", allowed)
        .with("of them lost", 0);
    println!("{figures}");
}

#[test]
fn an_interface_that_is_renamed_or_moved_takes_its_guard_along() {
    let rounds: u64 = if is_long() { 50 } else { 2 };
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let program = portguard.status().program.id;
    let namespace = testbed.server.namespace();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for _ in 0..rounds {
            for (from, to) in [(IFACE, "wan0.7"), ("wan0.7", IFACE)] {
                namespace.ip(&format!("link set {from} name {to}")).expect("renaming");
                let status = portguard.status();
                assert_eq!((&*status.interface, status.program.id), (to, program));
            }
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);

    // Moved away and back: the kernel takes the program along, and gives the interface another index where its own is
    // taken.
    let elsewhere = Namespace::new("elsewhere").expect("a namespace");
    let there = testbed.machine.portguard(&elsewhere);
    let ends = ["taken", "peer0"].map(|name| End::new(&elsewhere, name));
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    for _ in 0..rounds {
        for (from, to) in [(namespace, &elsewhere), (&elsewhere, namespace)] {
            from.ip(&format!("link set {IFACE} netns {}", to.name())).expect("moving");
            assert_eq!(program_on(to, IFACE), Some(program));
            let (here, gone) =
                if to.name() == elsewhere.name() { (there, portguard) } else { (portguard, there) };
            assert_eq!(gone.all_status(), [], "status never shows a guard that is not there");
            let status = here.status_of(IFACE);
            assert_eq!(status.program.id, program, "nor hides one that is");
            assert_eq!(status.ifindex, to.ifindex(IFACE).expect("its index"));
        }
    }
    bring_up(&testbed);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(50));
        traffic.end()
    });
    exchanged.assert_sealed();
    let figures =
        Figures::of("names and places").with("times renamed", 2 * rounds).with("times moved", 2 * rounds);
    println!("{figures}");
}
