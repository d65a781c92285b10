//! Hosts on one switch: every frame for a host comes in over its one interface.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{End, Namespace, Veth};

/// The networks of a testbed, all on the one wire: for documentation (RFC 5737, RFC 3849) and benchmarks (RFC 2544).
pub const NETWORKS: [&str; 5] =
    ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32"];

const BRIDGE: &str = "br0";

/// A switch, in a namespace of its own, with a port for every host: the bridge's port has the host's label as name.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    cable: Veth,
}

impl Switch {
    /// A switch for cables of that kind.
    pub fn new(cable: Veth) -> Result<Self> {
        let namespace = Namespace::new("switch")?;
        // It only forwards: a learning bridge without the spanning tree's delay, snooping or addresses of its own.
        namespace.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))?;
        namespace.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link set {BRIDGE} up"
        ))?;
        Ok(Self { namespace, cable })
    }

    /// Plugs in a new host with these addresses on its `eth0`. All of [`NETWORKS`] are on its link.
    /// The label becomes an interface name, so it has at most 15 characters.
    pub fn host(&self, label: &str, addresses: &[IpAddr]) -> Result<Host> {
        let namespace = Namespace::new(label)?;
        let plug = addresses.iter().fold(End::new(&namespace, Host::INTERFACE), |plug, address| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            plug.address(format!("{address}/{length}"))
        });
        self.cable.connect(&plug, &End::new(&self.namespace, label))?;
        self.namespace.ip(&format!("link set {label} master {BRIDGE}"))?;
        for network in NETWORKS {
            // A network of a family that the host has no address in cannot be reached, and need not be.
            let is_v6 = network.contains(':');
            if addresses.iter().any(|address| address.is_ipv6() == is_v6) {
                namespace.ip(&format!("route add {network} dev {}", Host::INTERFACE))?;
            }
        }
        Ok(Host { namespace })
    }

    /// The switch's own namespace: a capture on the port named like a host sees all that goes to that host, before
    /// anything on the host can drop it.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// A host on a [`Switch`].
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
}

impl Host {
    /// The name of every host's one network interface.
    pub const INTERFACE: &str = "eth0";

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command that runs on the host; see [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.namespace.command(program)
    }

    /// Runs `work` on the host; see [`Namespace::run`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work)
    }
}
