//! The attacker: frames whose source address is somebody else's.

use anyhow::Result;

use super::frame::{Mac, Packet, Tag};
use super::{Host, PacketSocket};

/// Sends packets from one host straight to another one's network card.
#[derive(Debug)]
pub struct Forger {
    socket: PacketSocket,
    target: Mac,
}

impl Forger {
    /// An attacker at `host` whose frames reach `target`.
    pub fn new(host: &Host, target: &Host) -> Result<Self> {
        let target = PacketSocket::open(target.namespace(), Host::INTERFACE)?.mac();
        Ok(Self { socket: PacketSocket::open(host.namespace(), Host::INTERFACE)?, target })
    }

    /// Sends one packet.
    pub fn send(&self, packet: &Packet) -> Result<()> {
        self.send_tagged(packet, &[])
    }

    /// The same behind VLAN tags.
    pub fn send_tagged(&self, packet: &Packet, tags: &[Tag]) -> Result<()> {
        self.socket.send(&packet.frame(self.socket.mac(), self.target, tags))
    }
}
