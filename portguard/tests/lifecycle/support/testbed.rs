//! Hosts to play on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portguard_testkit::net::frame::Flow;
use portguard_testkit::net::{End, Host, Namespace, Switch, Veth};

use super::{Lists, Machine, Portguard};

/// The guarded interface.
pub(crate) const IFACE: &str = Host::INTERFACE;

/// The addresses of the host with the guard.
pub(crate) const SERVER: [IpAddr; 2] = [v4(192, 0, 2, 1), v6(0, 1)];
/// Those of a host on the allowlist.
pub(crate) const ALLOWED: [IpAddr; 2] = [v4(192, 0, 2, 10), v6(0, 0x10)];
/// Those of a host that is not.
pub(crate) const DENIED: [IpAddr; 2] = [v4(198, 51, 100, 20), v6(0x51, 0x20)];
/// Those of nobody.
pub(crate) const OTHER: [IpAddr; 2] = [v4(203, 0, 113, 9), v6(0x113, 9)];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
}

/// The source port of packets that are made by hand.
pub(crate) const SOURCE_PORT: u16 = 40_000;

/// From port 40000 of `source` to a port of `destination`.
pub(crate) fn flow(source: IpAddr, destination: IpAddr, port: u16) -> Flow {
    match (SocketAddr::new(source, SOURCE_PORT), SocketAddr::new(destination, port)) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => Flow::V4(source, destination),
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => Flow::V6(source, destination),
        mixed => panic!("{mixed:?} is in no address family"),
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Allowed,
    Denied,
}

impl Role {
    pub(crate) const BOTH: [Self; 2] = [Self::Allowed, Self::Denied];

    pub(crate) fn addresses(self) -> [IpAddr; 2] {
        match self {
            Self::Allowed => ALLOWED,
            Self::Denied => DENIED,
        }
    }
}

/// A server, and two who ask it, on one switch.
#[derive(Debug)]
pub(crate) struct Testbed {
    pub(crate) machine: Machine,
    pub(crate) switch: Switch,
    pub(crate) server: Host,
    allowed: Host,
    denied: Host,
    pub(crate) lists: Lists,
}

impl Testbed {
    pub(crate) fn new() -> Self {
        Self::on(Machine::new())
    }

    /// One whose hosts share that machine.
    pub(crate) fn on(machine: Machine) -> Self {
        let switch = Switch::new(Veth::new()).expect("a switch");
        let host = |label: &str, addresses| switch.host(label, addresses).expect("a host");
        let (server, allowed, denied) =
            (host("server", &SERVER), host("allowed", &ALLOWED), host("denied", &DENIED));
        Self { machine, switch, server, allowed, denied, lists: Lists::new() }
    }

    pub(crate) fn host(&self, role: Role) -> &Host {
        match role {
            Role::Allowed => &self.allowed,
            Role::Denied => &self.denied,
        }
    }

    /// The command line on the server.
    pub(crate) fn portguard(&self) -> Portguard<'_> {
        self.machine.portguard(self.server.namespace())
    }

    /// A list that covers [`ALLOWED`]. Returns its path.
    pub(crate) fn list(&self) -> String {
        self.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"])
    }

    /// Puts a guard with that list on the server.
    #[track_caller]
    pub(crate) fn attach(&self) {
        self.portguard().ok(&["attach", IFACE, "--allowlist", &self.list()]);
    }
}

/// One host with interfaces that lead nowhere.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) namespace: Namespace,
    pub(crate) lists: Lists,
}

impl Bench {
    /// With [`IFACE`] and its other end, `peer0`.
    pub(crate) fn new() -> Self {
        let bench = Self::bare();
        bench.plug(IFACE, "peer0");
        bench
    }

    /// With `lo` only.
    pub(crate) fn bare() -> Self {
        let namespace = Namespace::new("bench").expect("a namespace");
        Self { machine: Machine::new(), namespace, lists: Lists::new() }
    }

    /// A cable with both ends on this host.
    pub(crate) fn plug(&self, interface: &str, peer: &str) {
        let ends = [interface, peer].map(|name| End::new(&self.namespace, name));
        let [interface, peer] = &ends;
        Veth::new().connect(interface, peer).expect("a cable");
    }

    pub(crate) fn portguard(&self) -> Portguard<'_> {
        self.machine.portguard(&self.namespace)
    }

    /// A list of one entry. Returns its path.
    pub(crate) fn list(&self) -> String {
        self.lists.write("allowlist.yaml", ["192.0.2.0/24"])
    }
}
