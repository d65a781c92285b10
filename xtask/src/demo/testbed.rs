//! The hosts of the demo, and who may do what.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use portguard_testkit::net::{Host, RpcServices, Switch, Veth, rpc};

const PATIENCE: Duration = Duration::from_secs(2);

/// An address family, each with its own socket in rpcbind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Who is on the testbed. The prefix of each one's network is what an allowlist would name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Allowed,
    Denied,
    Attacker,
    Victim,
}

impl Role {
    pub(super) const ALL: [Self; 5] =
        [Self::Server, Self::Allowed, Self::Denied, Self::Attacker, Self::Victim];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Attacker => "attacker",
            Self::Victim => "victim",
        }
    }

    pub(super) fn does(self) -> &'static str {
        match self {
            Self::Server => "runs the real rpcbind, rpc.statd and rpc.mountd",
            Self::Allowed => "an NFS client, its network is on the allowlist",
            Self::Denied => "not on the allowlist",
            Self::Attacker => "sends requests in the victim's name",
            Self::Victim => "never asked for anything",
        }
    }

    pub(super) fn v4(self) -> Ipv4Addr {
        match self {
            Self::Server => Ipv4Addr::new(192, 0, 2, 1),
            Self::Allowed => Ipv4Addr::new(192, 0, 2, 10),
            Self::Denied => Ipv4Addr::new(198, 51, 100, 20),
            Self::Attacker => Ipv4Addr::new(198, 18, 0, 66),
            Self::Victim => Ipv4Addr::new(203, 0, 113, 9),
        }
    }

    pub(super) fn v6(self) -> Ipv6Addr {
        let (network, host) = match self {
            Self::Server => (0, 0x1),
            Self::Allowed => (0, 0x10),
            Self::Denied => (0x2, 0x20),
            Self::Attacker => (0x666, 0x66),
            Self::Victim => (0x3, 0x9),
        };
        Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host)
    }

    pub(super) fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4().into(),
            Family::V6 => self.v6().into(),
        }
    }

    /// The networks of the host, as an allowlist names them.
    pub(super) fn prefixes(self) -> [String; 2] {
        let [a, b, c, _] = self.v4().octets();
        let [first, second, third, ..] = self.v6().segments();
        let network = Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0);
        [format!("{a}.{b}.{c}.0/24"), format!("{network}/48")]
    }
}

/// The switch and the hosts on it.
#[derive(Debug)]
pub(super) struct Testbed {
    pub(super) switch: Switch,
    hosts: [Host; Role::ALL.len()],
}

impl Testbed {
    pub(super) fn new() -> Result<Self> {
        let switch = Switch::new(Veth::new())?;
        let host = |role: Role| switch.host(role.name(), &Family::BOTH.map(|family| role.address(family)));
        let [a, b, c, d, e] = Role::ALL;
        let hosts = [host(a)?, host(b)?, host(c)?, host(d)?, host(e)?];
        Ok(Self { switch, hosts })
    }

    pub(super) fn host(&self, role: Role) -> &Host {
        &self.hosts[role as usize]
    }

    /// Starts the daemons, and has every host ask once over IPv4 and IPv6: the wire works, and the server knows
    /// where everybody is before anything is measured.
    pub(super) fn start_services(&self) -> Result<RpcServices<'_>> {
        let mut services = RpcServices::start(self.host(Role::Server).namespace())?;
        services.start_statd()?;
        let [clients, _] = Role::Allowed.prefixes();
        services.start_mountd(&clients)?;
        for role in Role::ALL.into_iter().filter(|&role| role != Role::Server) {
            for family in Family::BOTH {
                self.ask(role, family)?
                    .with_context(|| format!("{} gets no {} answer", role.name(), family.name()))?;
            }
        }
        Ok(services)
    }

    /// Asks the server's rpcbind for its list, over UDP; `None` when no answer comes.
    pub(super) fn ask(&self, role: Role, family: Family) -> Result<Option<()>> {
        let server = SocketAddr::new(Role::Server.address(family), rpc::PORT);
        Ok(self.host(role).run(|| rpc::dump(server, PATIENCE))?.map(drop))
    }
}

/// Writes an allowlist with the networks of these hosts.
pub(super) fn write_allowlist(path: &Path, allowed: &[Role]) -> Result<()> {
    let mut yaml = String::from("allow:\n");
    for role in allowed {
        for prefix in role.prefixes() {
            yaml += &format!("  - {prefix}\n");
        }
    }
    fs::write(path, yaml).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_networks_without_host_bits() {
        assert_eq!(Role::Allowed.prefixes(), ["192.0.2.0/24", "2001:db8::/48"]);
        assert_eq!(Role::Denied.prefixes(), ["198.51.100.0/24", "2001:db8:2::/48"]);
    }

    #[test]
    fn hosts_are_found_by_their_role() {
        for (index, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, index);
        }
    }
}
