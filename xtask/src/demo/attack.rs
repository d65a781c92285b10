//! The reflection attack: requests in the victim's name, and what they bring him.

use std::net::{SocketAddrV4, SocketAddrV6};

use anyhow::{Context as _, Result};

use super::testbed::{Family, Role, Testbed};
use portguard_testkit::net::frame::{Flow, Packet};
use portguard_testkit::net::{Capture, Forger, Host, Replies, rpc};

/// Few enough for rpcbind's receive buffer to hold them all.
pub(super) const REQUESTS: u64 = 100;

/// What one attack did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attack {
    pub(super) family: Family,
    /// The bytes that the attacker spent, without headers.
    pub(super) spent: u64,
    pub(super) hit: Replies,
}

impl Attack {
    /// Bytes at the victim for one byte of the attacker, without headers, as CERTs state it.
    pub(super) fn amplification(&self) -> f64 {
        self.hit.payload as f64 / self.spent as f64
    }
}

/// Sends [`REQUESTS`] forged DUMPs, and measures at the victim's network card.
pub(super) fn attack(testbed: &Testbed, family: Family) -> Result<Attack> {
    const SOURCE_PORT: u16 = 40_000;
    let flow = match family {
        Family::V4 => Flow::V4(
            SocketAddrV4::new(Role::Victim.v4(), SOURCE_PORT),
            SocketAddrV4::new(Role::Server.v4(), rpc::PORT),
        ),
        Family::V6 => Flow::V6(
            SocketAddrV6::new(Role::Victim.v6(), SOURCE_PORT, 0, 0),
            SocketAddrV6::new(Role::Server.v6(), rpc::PORT, 0, 0),
        ),
    };
    let request = rpc::dump_call();
    let packet = Packet::udp(flow, &request);
    let mut at_victim = Capture::start(testbed.host(Role::Victim).namespace(), Host::INTERFACE)?;
    let forger = Forger::new(testbed.host(Role::Attacker), testbed.host(Role::Server))?;
    for _ in 0..REQUESTS {
        forger.send(&packet)?;
    }
    // rpcbind serves a socket in the order of arrival: with this answer, it has dealt with all of the above.
    testbed
        .ask(Role::Allowed, family)?
        .with_context(|| format!("the allowed client gets no {} answer after the attack", family.name()))?;
    let hit = at_victim.replies(Role::Server.address(family))?;
    Ok(Attack { family, spent: REQUESTS * request.len() as u64, hit })
}
