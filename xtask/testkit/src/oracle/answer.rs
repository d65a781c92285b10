//! What a host says on the wire when a packet has reached it: the answers of TCP and of echo.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

/// A packet that shows that another one was delivered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A TCP segment.
    Tcp {
        /// The port that answers.
        port: u16,
        /// Who is answered.
        to: (IpAddr, u16),
        /// SYN, ACK, RST.
        flags: [bool; 3],
        /// What it acknowledges.
        acknowledgment: u32,
    },
    /// An echo reply.
    Echo {
        /// Who is answered.
        to: IpAddr,
        /// What comes back.
        payload: Vec<u8>,
    },
    /// A UDP datagram.
    Udp {
        /// To this port.
        port: u16,
        /// With this in it.
        payload: Vec<u8>,
    },
}

impl Answer {
    /// The answer in a frame that a host has sent; `None` for errors, and for what hosts say of their own accord.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        const ECHO_REPLY_V4: u8 = 0;
        const ECHO_REPLY_V6: u8 = 129;
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let to: IpAddr = match sliced.net? {
            LaxNetSlice::Ipv4(packet) => packet.header().destination_addr().into(),
            LaxNetSlice::Ipv6(packet) => packet.header().destination_addr().into(),
            LaxNetSlice::Arp(_) => return None,
        };
        match sliced.transport? {
            TransportSlice::Tcp(segment) => Some(Self::Tcp {
                port: segment.source_port(),
                to: (to, segment.destination_port()),
                flags: [segment.syn(), segment.ack(), segment.rst()],
                acknowledgment: segment.acknowledgment_number(),
            }),
            TransportSlice::Udp(datagram) => {
                Some(Self::Udp { port: datagram.destination_port(), payload: datagram.payload().to_vec() })
            }
            TransportSlice::Icmpv4(message) if message.slice()[0] == ECHO_REPLY_V4 => {
                Some(Self::Echo { to, payload: message.slice()[4..].to_vec() })
            }
            TransportSlice::Icmpv6(message) if message.slice()[0] == ECHO_REPLY_V6 => {
                Some(Self::Echo { to, payload: message.slice()[4..].to_vec() })
            }
            TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => None,
        }
    }
}
