//! Hosts to play on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;

use crate::lists::Lists;
use crate::machine::Machine;
use crate::net::frame::Flow;
use crate::net::{End, Host, Namespace, Switch, Veth};
use crate::portguard::Portguard;

/// The guarded interface.
pub const IFACE: &str = Host::INTERFACE;

/// The addresses of the host with the guard.
pub const SERVER: [IpAddr; 2] = [v4(192, 0, 2, 1), v6(0, 1)];
/// Those of a host on the allowlist.
pub const ALLOWED: [IpAddr; 2] = [v4(192, 0, 2, 10), v6(0, 0x10)];
/// Those of a host that is not.
pub const DENIED: [IpAddr; 2] = [v4(198, 51, 100, 20), v6(0x51, 0x20)];
/// Those of a host that sends packets in the name of others.
pub const ATTACKER: [IpAddr; 2] = [v4(198, 18, 0, 66), v6(0x666, 0x66)];
/// Those that packets are forged with; most testbeds have no such host.
pub const OTHER: [IpAddr; 2] = [v4(203, 0, 113, 9), v6(0x113, 9)];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
}

/// The source port of packets that are made by hand.
pub const SOURCE_PORT: u16 = 40_000;

/// From port 40000 of `source` to a port of `destination`.
pub fn flow(source: IpAddr, destination: IpAddr, port: u16) -> Flow {
    Flow::new(SocketAddr::new(source, SOURCE_PORT), SocketAddr::new(destination, port))
}

/// Who is on a testbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Has the guard, and whatever listens on port 111.
    Server,
    /// May ask: its networks are what an allowlist would name.
    Allowed,
    /// May not ask.
    Denied,
    /// Sends packets in the name of others.
    Attacker,
    /// In whose name packets are sent.
    Victim,
}

impl Role {
    /// Everybody.
    pub const ALL: [Self; 5] = [Self::Server, Self::Allowed, Self::Denied, Self::Attacker, Self::Victim];
    /// Those who ask the server.
    pub const CLIENTS: [Self; 2] = [Self::Allowed, Self::Denied];

    /// What the host is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Attacker => "attacker",
            Self::Victim => "victim",
        }
    }

    /// The IPv4 and the IPv6 address of the host.
    pub fn addresses(self) -> [IpAddr; 2] {
        match self {
            Self::Server => SERVER,
            Self::Allowed => ALLOWED,
            Self::Denied => DENIED,
            Self::Attacker => ATTACKER,
            Self::Victim => OTHER,
        }
    }

    /// The networks of the host, as an allowlist names them.
    pub fn prefixes(self) -> [String; 2] {
        self.addresses().map(|address| match address {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(address) => {
                let [first, second, third, ..] = address.segments();
                format!("{}/48", Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0))
            }
        })
    }
}

/// A server and others, on one switch. They share a machine.
#[derive(Debug)]
pub struct Testbed {
    /// What the hosts share.
    pub machine: Machine,
    /// What connects them.
    pub switch: Switch,
    /// The host with the guard.
    pub server: Host,
    others: Vec<(Role, Host)>,
    /// Allowlists.
    pub lists: Lists,
}

impl Testbed {
    /// A server with this portguard, and two who ask it.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self::on(Machine::new(program))
    }

    /// The same, whose hosts share that machine.
    pub fn on(machine: Machine) -> Self {
        Self::with(machine, &Role::CLIENTS).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A server, and hosts with these roles.
    pub fn with(machine: Machine, roles: &[Role]) -> Result<Self> {
        let switch = Switch::new(Veth::new())?;
        let host = |role: Role| switch.host(role.name(), &role.addresses());
        let server = host(Role::Server)?;
        let others = roles.iter().map(|&role| Ok((role, host(role)?))).collect::<Result<_>>()?;
        Ok(Self { machine, switch, server, others, lists: Lists::new() })
    }

    /// A host; one that the testbed has.
    pub fn host(&self, role: Role) -> &Host {
        let found = self.others.iter().find(|(other, _)| *other == role).map(|(_, host)| host);
        match role {
            Role::Server => &self.server,
            _ => found.unwrap_or_else(|| panic!("this testbed has no {}", role.name())),
        }
    }

    /// The command line on the server.
    pub fn portguard(&self) -> Portguard<'_> {
        self.machine.portguard(self.server.namespace())
    }

    /// A list that covers [`ALLOWED`]. Returns its path.
    pub fn list(&self) -> String {
        self.lists.write("allowlist.yaml", Role::Allowed.prefixes())
    }

    /// Puts a guard with that list on the server.
    #[track_caller]
    pub fn attach(&self) {
        self.portguard().ok(&["attach", IFACE, "--allowlist", &self.list()]);
    }
}

/// One host with interfaces that lead nowhere.
#[derive(Debug)]
pub struct SingleHost {
    /// Its mounts, and its portguard.
    pub machine: Machine,
    /// Its network.
    pub namespace: Namespace,
    /// Allowlists.
    pub lists: Lists,
}

impl SingleHost {
    /// With this portguard, and with [`IFACE`] and its other end, `peer0`.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let host = Self::bare(program);
        host.plug(IFACE, "peer0");
        host
    }

    /// With `lo` only.
    pub fn bare(program: impl AsRef<Path>) -> Self {
        let namespace = Namespace::new("host").expect("a namespace");
        Self { machine: Machine::new(program), namespace, lists: Lists::new() }
    }

    /// A cable with both ends on this host.
    pub fn plug(&self, interface: &str, peer: &str) {
        let ends = [interface, peer].map(|name| End::new(&self.namespace, name));
        let [interface, peer] = &ends;
        Veth::new().connect(interface, peer).expect("a cable");
    }

    /// The command line on it.
    pub fn portguard(&self) -> Portguard<'_> {
        self.machine.portguard(&self.namespace)
    }

    /// A list of one entry. Returns its path.
    pub fn list(&self) -> String {
        self.lists.write("allowlist.yaml", ["192.0.2.0/24"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_networks_without_host_bits() {
        assert_eq!(Role::Allowed.prefixes(), ["192.0.2.0/24", "2001:db8::/48"]);
        assert_eq!(Role::Denied.prefixes(), ["198.51.100.0/24", "2001:db8:51::/48"]);
    }
}
