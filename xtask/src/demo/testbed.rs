//! What the hosts of the demo are for, and what runs on them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use portguard_testkit::net::{RpcServices, rpc};
use portguard_testkit::testbed::{Role, Testbed};

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

    /// The address of this family that a host has.
    pub(super) fn address_of(self, role: Role) -> IpAddr {
        let [v4, v6] = role.addresses();
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// What a host is there for.
pub(super) fn purpose(role: Role) -> &'static str {
    match role {
        Role::Server => "runs the real rpcbind, rpc.statd and rpc.mountd",
        Role::Allowed => "an NFS client, its network is on the allowlist",
        Role::Denied => "not on the allowlist",
        Role::Attacker => "sends requests in the victim's name",
        Role::Victim => "never asked for anything",
    }
}

/// Starts the daemons, and has every host ask once over IPv4 and IPv6: the wire works, and the server knows where everybody
/// is before anything is measured.
pub(super) fn start_services(testbed: &Testbed) -> Result<RpcServices<'_>> {
    let mut services = RpcServices::start(testbed.server.namespace())?;
    services.start_statd()?;
    let [clients, _] = Role::Allowed.prefixes();
    services.start_mountd(&clients)?;
    for role in Role::ALL.into_iter().filter(|&role| role != Role::Server) {
        for family in Family::BOTH {
            ensure!(is_answered(testbed, role, family)?, "{} gets no {} answer", role.name(), family.name());
        }
    }
    Ok(services)
}

/// Whether the server's rpcbind answers a host over UDP.
pub(super) fn is_answered(testbed: &Testbed, role: Role, family: Family) -> Result<bool> {
    let server = SocketAddr::new(family.address_of(Role::Server), rpc::PORT);
    testbed.host(role).run(|| rpc::answers_null(server, PATIENCE))
}
