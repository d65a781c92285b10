//! Packets with any source address and valid checksums, and the frames that carry them.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    PacketBuilder, PacketBuilderStep,
};

const HOPS: u8 = 64;

/// A MAC address.
pub type Mac = [u8; 6];

/// From where to where, in one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// IPv4 source and destination.
    V4(SocketAddrV4, SocketAddrV4),
    /// IPv6 source and destination.
    V6(SocketAddrV6, SocketAddrV6),
}

impl Flow {
    /// From one address to another one of the same family.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source, destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Self::V4(source, destination),
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => Self::V6(source, destination),
            mixed => panic!("{mixed:?} is in no address family"),
        }
    }

    fn ports(self) -> (u16, u16) {
        match self {
            Self::V4(source, destination) => (source.port(), destination.port()),
            Self::V6(source, destination) => (source.port(), destination.port()),
        }
    }

    // Lengths, the protocol and the checksums are filled in when the packet is written.
    fn headers(self) -> PacketBuilderStep<IpHeaders> {
        let placeholder = IpNumber::UDP;
        PacketBuilder::ip(match self {
            Self::V4(source, destination) => IpHeaders::Ipv4(
                Ipv4Header {
                    protocol: placeholder,
                    time_to_live: HOPS,
                    source: source.ip().octets(),
                    destination: destination.ip().octets(),
                    ..Default::default()
                },
                Ipv4Extensions::default(),
            ),
            Self::V6(source, destination) => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: placeholder,
                    hop_limit: HOPS,
                    source: source.ip().octets(),
                    destination: destination.ip().octets(),
                },
                Ipv6Extensions::default(),
            ),
        })
    }
}

/// An 802.1Q or 802.1ad tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The tag protocol identifier.
    pub tpid: u16,
    /// The VLAN.
    pub vlan: u16,
}

impl Tag {
    /// A customer's tag (802.1Q).
    pub fn customer(vlan: u16) -> Self {
        Self { tpid: 0x8100, vlan }
    }

    /// A provider's tag (802.1ad).
    pub fn service(vlan: u16) -> Self {
        Self { tpid: 0x88a8, vlan }
    }
}

/// An IP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    ethertype: u16,
    bytes: Vec<u8>,
}

impl Packet {
    /// A UDP datagram. Panics when `payload` does not fit into one packet.
    pub fn udp(flow: Flow, payload: &[u8]) -> Self {
        let (source, destination) = flow.ports();
        Self::build(flow, |headers, bytes| headers.udp(source, destination).write(bytes, payload))
    }

    /// The first segment of a TCP connection.
    pub fn tcp_syn(flow: Flow) -> Self {
        const SEQUENCE: u32 = 1;
        const WINDOW: u16 = 64_240;
        let (source, destination) = flow.ports();
        Self::build(flow, |headers, bytes| {
            headers.tcp(source, destination, SEQUENCE, WINDOW).syn().write(bytes, &[])
        })
    }

    /// A segment with data, as in the middle of a TCP connection. Panics when `payload` does not fit into one packet.
    pub fn tcp_data(flow: Flow, payload: &[u8]) -> Self {
        const SEQUENCE: u32 = 2;
        const WINDOW: u16 = 64_240;
        let (source, destination) = flow.ports();
        Self::build(flow, |headers, bytes| {
            headers.tcp(source, destination, SEQUENCE, WINDOW).ack(2).psh().write(bytes, payload)
        })
    }

    fn build<E: std::fmt::Debug>(
        flow: Flow,
        write: impl FnOnce(PacketBuilderStep<IpHeaders>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Self {
        let ethertype = match flow {
            Flow::V4(..) => 0x0800,
            Flow::V6(..) => 0x86dd,
        };
        let mut bytes = Vec::new();
        write(flow.headers(), &mut bytes).expect("the payload fits into one packet");
        Self { ethertype, bytes }
    }

    /// The packet without a link-layer header.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The Ethernet frame that carries it, behind `tags`, the outermost first.
    pub fn frame(&self, source: Mac, destination: Mac, tags: &[Tag]) -> Vec<u8> {
        let mut frame = [destination, source].concat();
        for tag in tags {
            frame.extend(tag.tpid.to_be_bytes());
            frame.extend(tag.vlan.to_be_bytes());
        }
        frame.extend(self.ethertype.to_be_bytes());
        frame.extend(&self.bytes);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_between_the_addresses_and_the_ethertype() {
        let flow = Flow::V4("192.0.2.1:1".parse().unwrap(), "192.0.2.2:111".parse().unwrap());
        let packet = Packet::tcp_syn(flow);
        let frame = packet.frame([2; 6], [4; 6], &[Tag::service(7), Tag::customer(300)]);
        assert_eq!(frame[..12], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2]);
        assert_eq!(frame[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 1, 44, 0x08, 0]);
        assert_eq!(frame[22..], *packet.bytes());
    }

    #[test]
    fn lengths_are_those_of_the_headers() {
        let v4 = Flow::V4("192.0.2.1:1".parse().unwrap(), "192.0.2.2:111".parse().unwrap());
        let v6 = Flow::V6("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:111".parse().unwrap());
        assert_eq!(Packet::udp(v4, &[0; 40]).bytes().len(), 20 + 8 + 40);
        assert_eq!(Packet::udp(v6, &[0; 40]).bytes().len(), 40 + 8 + 40);
        assert_eq!(Packet::tcp_syn(v4).bytes().len(), 20 + 20);
        assert_eq!(Packet::tcp_syn(v6).bytes().len(), 40 + 20);
    }
}
