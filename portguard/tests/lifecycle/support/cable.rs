//! A cable to a guarded interface, and what gets past the guard.

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{End, Namespace, PacketSocket, Veth};

use super::{ALLOWED, PATIENCE, SERVER, flow};

/// Frames that are sent at once: the ring of a veth holds 256.
const BATCH: usize = 100;

/// A cable from a host that sends to one with a guard.
pub(crate) struct Cable {
    near: PacketSocket,
    far: PacketSocket,
}

impl Cable {
    /// Lays one, whose ends have the same name on both hosts.
    pub(crate) fn lay(guarded: &Namespace, sender: &Namespace, interface: &str) -> Self {
        Veth::new().connect(&End::new(guarded, interface), &End::new(sender, interface)).expect("a cable");
        let [near, far] =
            [guarded, sender].map(|host| PacketSocket::open(host, interface).expect("a packet socket"));
        Self { near, far }
    }

    /// Sends packets, in their order; which of them get past the guard.
    pub(crate) fn get_past(&self, packets: &[Packet]) -> Vec<bool> {
        packets.chunks(BATCH).flat_map(|batch| self.batch(batch)).collect()
    }

    fn batch(&self, packets: &[Packet]) -> Vec<bool> {
        let frame = |packet: &Packet| packet.frame(self.far.mac(), self.near.mac(), &[]);
        let frames: Vec<Vec<u8>> = packets.iter().map(frame).collect();
        // Nobody drops the last one, and nothing overtakes it.
        let last = frame(&Packet::udp(flow(ALLOWED[0], SERVER[0], 112), &[]));
        for frame in frames.iter().chain([&last]) {
            self.far.send(frame).expect("sending");
        }
        let mut past = vec![false; packets.len()];
        let mut next = 0;
        loop {
            let frame = self.near.receive(PATIENCE).expect("receiving").expect("the packet for another port");
            if frame == last {
                return past;
            }
            // In the order in which they were sent; frames of others, such as router solicitations, are none of them.
            if let Some(ahead) = frames[next..].iter().position(|sent| *sent == frame) {
                past[next + ahead] = true;
                next += ahead + 1;
            }
        }
    }
}
