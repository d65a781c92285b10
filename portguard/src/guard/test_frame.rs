//! Test frames: requests to port 111 in their form on the wire, which the program in the kernel judges. They are never
//! sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portguard_common::PORT;
use portguard_common::frame::LinkType;
use portguard_common::transport::Protocol;

/// The destination of test frames, which the guard does not check: addresses for documentation (RFC 5737, RFC 3849).
const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const SOURCE_PORT: u16 = 40_000;
const HOPS: u8 = 64;
/// The addresses of the Ethernet header: to broadcast, from a locally administered address.
const MACS: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];

/// The frame of a request from `source`, with right checksums.
pub(super) fn frame(link: LinkType, source: IpAddr, protocol: Protocol) -> Vec<u8> {
    let ethertype: u16 = if source.is_ipv4() { 0x0800 } else { 0x86dd };
    let mut frame = match link {
        LinkType::Ethernet => [&MACS[..], &ethertype.to_be_bytes()].concat(),
        LinkType::RawIp => Vec::new(),
    };
    frame.extend(packet(source, protocol));
    frame
}

/// The IP packet in the frame.
fn packet(source: IpAddr, protocol: Protocol) -> Vec<u8> {
    let addresses = match source {
        IpAddr::V4(source) => [source.octets(), DESTINATION_V4.octets()].concat(),
        IpAddr::V6(source) => [source.octets(), DESTINATION_V6.octets()].concat(),
    };
    let (mut payload, checksum_at) = match protocol {
        Protocol::Udp => (udp(), 6),
        Protocol::Tcp => (tcp_syn(), 16),
    };
    let length = payload.len() as u16;
    // The pseudo header, RFC 768 and RFC 8200, section 8.1.
    let pseudo = sum(&addresses) + u32::from(protocol.number()) + u32::from(length);
    let checksum = checksum(pseudo + sum(&payload));
    payload[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    let header = if source.is_ipv4() { ipv4 } else { ipv6 };
    let mut packet = header(protocol.number(), length, &addresses);
    packet.extend(payload);
    packet
}

/// RFC 791.
fn ipv4(protocol: u8, length: u16, addresses: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((20 + length).to_be_bytes());
    // Identification zero, and the flag "don't fragment".
    header.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
    header.extend(addresses);
    let checksum = checksum(sum(&header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// RFC 8200.
fn ipv6(protocol: u8, length: u16, addresses: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length.to_be_bytes());
    header.extend([protocol, HOPS]);
    header.extend(addresses);
    header
}

/// A datagram with the call of a procedure that does nothing (RFC 5531 and RFC 1833: version 2, NULL), without checksum.
fn udp() -> Vec<u8> {
    const CALL: [u32; 10] = [0x7067_6578, 0, 2, 100_000, 2, 0, 0, 0, 0, 0];
    let length = (8 + size_of_val(&CALL)) as u16;
    let ports = [SOURCE_PORT, PORT, length, 0].map(u16::to_be_bytes).concat();
    [ports, CALL.map(u32::to_be_bytes).concat()].concat()
}

/// RFC 9293, without checksum.
fn tcp_syn() -> Vec<u8> {
    let mut segment = [SOURCE_PORT, PORT].map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment
}

/// The sum of 16-bit words; `bytes` must have an even length.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
}

/// The internet checksum (RFC 1071) of words with the sum `total`. It is never zero, which means "no checksum" in UDP.
fn checksum(mut total: u32) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    match !(total as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use portguard_testkit::oracle::headers::{Ipv4, Ipv6};

    use super::*;

    /// The builder of the tests, which shares nothing with this one.
    fn expected(source: IpAddr, protocol: Protocol) -> Vec<u8> {
        let call = &udp()[8..];
        match (source, protocol) {
            (IpAddr::V4(source), protocol) => {
                let header = Ipv4 { source: source.octets(), identification: 0, flags: 2, ..Ipv4::default() };
                match protocol {
                    Protocol::Udp => header.udp(SOURCE_PORT, PORT, call),
                    Protocol::Tcp => header.tcp(SOURCE_PORT, PORT, 2),
                }
            }
            (IpAddr::V6(source), protocol) => {
                let header = Ipv6 { source: source.octets(), ..Ipv6::default() };
                match protocol {
                    Protocol::Udp => header.udp(SOURCE_PORT, PORT, call),
                    Protocol::Tcp => header.tcp(SOURCE_PORT, PORT, 2),
                }
            }
        }
    }

    #[test]
    fn questions_are_those_of_a_well_behaved_client() {
        for source in ["0.0.0.0", "203.0.113.9", "255.255.255.255", "::", "2001:db8:3::9"] {
            let source: IpAddr = source.parse().unwrap();
            for protocol in Protocol::ALL {
                let packet = frame(LinkType::RawIp, source, protocol);
                assert_eq!(packet, expected(source, protocol), "{source} {protocol:?}");
                let ethernet = frame(LinkType::Ethernet, source, protocol);
                assert_eq!(ethernet[14..], packet);
                assert_eq!(ethernet[12..14], if source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
            }
        }
    }
}
