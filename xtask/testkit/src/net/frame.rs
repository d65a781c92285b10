//! Packets with any source address and valid checksums, and the frames that carry them.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    PacketBuilder, PacketBuilderStep,
};

const HOPS: u8 = 64;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

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

    /// The same with options that ask for nothing: those of IPv4 (RFC 791), or those that stand hop-by-hop and for the
    /// destination behind the header of IPv6 (RFC 8200, section 4.2).
    pub fn with_options(&self) -> Self {
        const NOP: u8 = 1;
        const PAD_N: [u8; 6] = [1, 4, 0, 0, 0, 0];
        const HOP_BY_HOP: u8 = 0;
        const DESTINATION: u8 = 60;
        self.with_ip(|ip| match ip {
            Ip::V4(header, payload) => {
                header.options = [NOP; 8].into();
                payload
            }
            Ip::V6(header, payload) => {
                let of_destination = [&[header.next_header.0, 0][..], &PAD_N].concat();
                let of_hops = [&[DESTINATION, 0][..], &PAD_N].concat();
                header.next_header = HOP_BY_HOP.into();
                [of_hops, of_destination, payload].concat()
            }
        })
    }

    /// The same in two fragments; `identification` tells them from those of other packets.
    pub fn fragments(&self, identification: u16) -> [Self; 2] {
        /// The UDP header and some words: fragments begin at multiples of eight bytes.
        const FIRST: usize = 16;
        const FRAGMENT: u8 = 44;
        [false, true].map(|rest| {
            let part =
                |payload: &[u8]| if rest { payload[FIRST..].to_vec() } else { payload[..FIRST].to_vec() };
            let offset = if rest { (FIRST / 8) as u16 } else { 0 };
            self.with_ip(|ip| match ip {
                Ip::V4(header, payload) => {
                    header.identification = identification;
                    header.dont_fragment = false;
                    header.more_fragments = !rest;
                    header.fragment_offset = offset.try_into().expect("a short packet");
                    part(&payload)
                }
                Ip::V6(header, payload) => {
                    let own = [
                        &[header.next_header.0, 0][..],
                        &(offset << 3 | u16::from(!rest)).to_be_bytes(),
                        &u32::from(identification).to_be_bytes(),
                    ];
                    header.next_header = FRAGMENT.into();
                    [own.concat(), part(&payload)].concat()
                }
            })
        })
    }

    /// A datagram over IPv6 with the UDP length 0, which means "to the end of the packet" (RFC 2675, section 4). Linux has it so
    /// in packets of any length (`__udp6_lib_rcv`, net/ipv6/udp.c).
    pub fn without_udp_length(&self) -> Self {
        const LENGTH: usize = 4;
        const CHECKSUM: usize = 6;
        self.with_ip(|ip| match ip {
            Ip::V4(..) => panic!("UDP over IPv4 has a length"),
            Ip::V6(_, mut payload) => {
                let word = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                // RFC 1624, equation 3, with 0 for the new length.
                let sum = u32::from(!word(CHECKSUM)) + u32::from(!word(LENGTH));
                let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
                payload[LENGTH..][..2].fill(0);
                payload[CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
                payload
            }
        })
    }

    /// The packet with another header and payload; the length and the checksum of the header are written anew.
    fn with_ip(&self, change: impl FnOnce(Ip<'_>) -> Vec<u8>) -> Self {
        let mut bytes = Vec::new();
        if self.ethertype == ETHERTYPE_IPV4 {
            let (mut header, payload) = Ipv4Header::from_slice(&self.bytes).expect("its own header");
            let payload = change(Ip::V4(&mut header, payload.to_vec()));
            header.set_payload_len(payload.len()).expect("a short packet");
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut bytes).expect("writing into memory");
            bytes.extend(payload);
        } else {
            let (mut header, payload) = Ipv6Header::from_slice(&self.bytes).expect("its own header");
            let payload = change(Ip::V6(&mut header, payload.to_vec()));
            header.set_payload_length(payload.len()).expect("a short packet");
            header.write(&mut bytes).expect("writing into memory");
            bytes.extend(payload);
        }
        Self { ethertype: self.ethertype, bytes }
    }

    fn build<E: std::fmt::Debug>(
        flow: Flow,
        write: impl FnOnce(PacketBuilderStep<IpHeaders>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Self {
        let ethertype = match flow {
            Flow::V4(..) => ETHERTYPE_IPV4,
            Flow::V6(..) => ETHERTYPE_IPV6,
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

/// The header of a packet, and what is behind it.
enum Ip<'a> {
    V4(&'a mut Ipv4Header, Vec<u8>),
    V6(&'a mut Ipv6Header, Vec<u8>),
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
