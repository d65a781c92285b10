//! What a guard covers depends on where it is: bridges and their ports, macvlans and what they sit on. `docs/attach-points.md`
//! has the table; these are its rows, as far as this kernel has the devices.

use std::net::UdpSocket;
use std::time::Duration;

use xtask::lab::{End, Namespace, Veth};

use crate::support::{Bench, SILENCE};

const OUTSIDE: &str = "198.51.100.1";

/// A host whose `eth0` leads to one outside that is not on the list.
struct Site {
    bench: Bench,
    outside: Namespace,
}

impl Site {
    fn new() -> Self {
        let bench = Bench::bare();
        let outside = Namespace::new("outside").expect("a namespace");
        let ends = [End::new(&bench.namespace, "eth0"), End::new(&outside, "eth0")];
        Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
        outside.add_address("eth0", &format!("{OUTSIDE}/24")).expect("an address");
        Self { bench, outside }
    }

    fn guard(&self, interface: &str) {
        self.bench.portguard().ok(&["attach", interface, "--allowlist", &self.bench.list()]);
    }

    /// Whether a question from outside to port 111 of `address` reaches a socket of the host that has it.
    fn reaches(&self, host: &Namespace, address: &str) -> bool {
        let receiver = host.run(|| UdpSocket::bind((address, 111))).expect("a socket on port 111");
        let sender = self.outside.run(|| UdpSocket::bind((OUTSIDE, 0))).expect("a socket outside");
        receiver.set_read_timeout(Some(SILENCE)).expect("a timeout");
        // The first ones may be lost while addresses are resolved, or a bridge learns.
        for _ in 0..5 {
            sender.send_to(b"anybody there?", (address, 111)).expect("to send");
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver.recv_from(&mut [0; 64]).is_ok()
    }
}

/// A host with the bridge `br0`, of which `eth0` is a port, and a guest at another port.
fn bridged() -> (Site, Namespace) {
    let site = Site::new();
    let guest = Namespace::new("guest").expect("a namespace");
    let ends = [End::new(&site.bench.namespace, "guest0"), End::new(&guest, "eth0")];
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    site.bench
        .namespace
        .ip("link add br0 type bridge
             link set eth0 master br0
             link set guest0 master br0
             link set br0 up")
        .expect("a bridge");
    site.bench.namespace.add_address("br0", "198.51.100.2/24").expect("an address");
    guest.add_address("eth0", "198.51.100.3/24").expect("an address");
    (site, guest)
}

const HOST: &str = "198.51.100.2";
const GUEST: &str = "198.51.100.3";

#[test]
fn a_guard_on_a_bridge_covers_the_host_and_not_its_guests() {
    let (site, guest) = bridged();
    assert!(site.reaches(&site.bench.namespace, HOST) && site.reaches(&guest, GUEST), "without a guard");
    site.guard("br0");
    assert!(!site.reaches(&site.bench.namespace, HOST));
    assert!(site.reaches(&guest, GUEST));
}

#[test]
fn a_guard_on_the_port_of_a_bridge_covers_the_guests_too() {
    let (site, guest) = bridged();
    site.guard("eth0");
    assert!(!site.reaches(&site.bench.namespace, HOST));
    assert!(!site.reaches(&guest, GUEST));
}

#[test]
fn a_guard_on_a_guests_port_is_not_in_the_way_to_the_guest() {
    let (site, guest) = bridged();
    site.guard("guest0");
    assert!(site.reaches(&site.bench.namespace, HOST) && site.reaches(&guest, GUEST));
}

/// A host with the macvlan `mv0` on its `eth0`; both have addresses.
fn macvlan() -> Site {
    let site = Site::new();
    site.bench
        .namespace
        .ip("link add mv0 link eth0 type macvlan mode bridge\nlink set mv0 up")
        .expect("CONFIG_MACVLAN");
    site.bench.namespace.add_address("eth0", &format!("{HOST}/24")).expect("an address");
    site.bench.namespace.add_address("mv0", &format!("{GUEST}/24")).expect("an address");
    // Each address on the interface that has it.
    site.bench
        .namespace
        .run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"))
        .expect("a setting");
    site
}

#[test]
fn a_guard_under_a_macvlan_covers_it() {
    let site = macvlan();
    let host = &site.bench.namespace;
    assert!(site.reaches(host, HOST) && site.reaches(host, GUEST), "without a guard");
    site.guard("eth0");
    assert!(!site.reaches(host, HOST) && !site.reaches(host, GUEST));
}

#[test]
fn a_guard_on_a_macvlan_covers_no_more_than_that() {
    let site = macvlan();
    let host = &site.bench.namespace;
    site.guard("mv0");
    assert!(site.reaches(host, HOST));
    assert!(!site.reaches(host, GUEST));
}
