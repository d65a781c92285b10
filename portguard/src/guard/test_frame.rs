//! Test frames: requests to port 111 in their form on the wire, which the program in the kernel judges. They are never
//! sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portguard_common::PORT;
use portguard_common::frame::LinkType;
use portguard_common::rpc::{PROGRAM, Procedure};
use portguard_common::transport::Protocol;

/// The destination of test frames, which the guard does not check: addresses for documentation (RFC 5737, RFC 3849).
const DESTINATION_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DESTINATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const SOURCE_PORT: u16 = 40_000;
const HOPS: u8 = 64;
/// The addresses of the Ethernet header: to broadcast, from a locally administered address.
const MACS: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];

/// The frame of a request from `source`, with right checksums. Over TCP, it is the first segment of a connection, without a call.
pub(super) fn frame(link: LinkType, source: IpAddr, protocol: Protocol, call: Procedure) -> Vec<u8> {
    let ethertype: u16 = if source.is_ipv4() { 0x0800 } else { 0x86dd };
    let mut frame = match link {
        LinkType::Ethernet => [&MACS[..], &ethertype.to_be_bytes()].concat(),
        LinkType::RawIp => Vec::new(),
    };
    frame.extend(packet(source, protocol, call));
    frame
}

/// The IP packet in the frame.
fn packet(source: IpAddr, protocol: Protocol, call: Procedure) -> Vec<u8> {
    let addresses = match source {
        IpAddr::V4(source) => [source.octets(), DESTINATION_V4.octets()].concat(),
        IpAddr::V6(source) => [source.octets(), DESTINATION_V6.octets()].concat(),
    };
    let (mut payload, checksum_at) = match protocol {
        Protocol::Udp => (udp(call), 6),
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

/// A datagram with a call (RFC 5531, RFC 1833), without checksum.
fn udp(call: Procedure) -> Vec<u8> {
    // `struct rpcb`: NFS version 3 over UDP, without an address and an owner.
    const SERVICE: [u32; 6] = [100_003, 3, 3, u32::from_be_bytes(*b"udp\0"), 0, 0];
    // A string of 13 bytes, padded.
    const UNIVERSAL: [u32; 5] = [
        13,
        u32::from_be_bytes(*b"192."),
        u32::from_be_bytes(*b"0.2."),
        u32::from_be_bytes(*b"1.8."),
        u32::from_be_bytes(*b"1\0\0\0"),
    ];
    // `struct netbuf`: its size, its length, and the server's own `struct sockaddr_in`.
    const OF_TRANSPORT: [u32; 6] = [16, 16, 0x0200_0801, 0xc000_0201, 0, 0];
    // The program, the version, the procedure, and the arguments.
    let (call, arguments): ([u32; 3], &[u32]) = match call {
        Procedure::Null => ([PROGRAM, 2, 0], &[]),
        // Of NFS version 3, over UDP.
        Procedure::GetAddress => ([PROGRAM, 2, 3], &[100_003, 3, 17, 0]),
        Procedure::Dump => ([PROGRAM, 3, 4], &[]),
        Procedure::CallIt => ([PROGRAM, 2, 5], &[100_003, 3, 0, 0]),
        Procedure::GetStat => ([PROGRAM, 4, 12], &[]),
        Procedure::Set => ([PROGRAM, 2, 1], &[100_003, 3, 17, 2049]),
        Procedure::OtherRpc => ([PROGRAM, 4, 13], &[]),
        // Not the version of RPC.
        Procedure::NotRpc => ([0, 0, 0], &[]),
        Procedure::GetAddressList => ([PROGRAM, 4, 11], &SERVICE),
        Procedure::GetTime => ([PROGRAM, 3, 6], &[]),
        Procedure::ToTransport => ([PROGRAM, 3, 7], &UNIVERSAL),
        Procedure::ToUniversal => ([PROGRAM, 3, 8], &OF_TRANSPORT),
        Procedure::GetVersionAddress => ([PROGRAM, 4, 9], &SERVICE),
        Procedure::OtherProgram => ([100_003, 3, 0], &[]),
    };
    let version = if call[0] == 0 { 0 } else { 2 };
    let message = [&[0x7067_6578, 0, version][..], &call, &[0; 4], arguments].concat();
    let payload: Vec<u8> = message.into_iter().flat_map(u32::to_be_bytes).collect();
    let length = (8 + payload.len()) as u16;
    [[SOURCE_PORT, PORT, length, 0].map(u16::to_be_bytes).concat(), payload].concat()
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
    use portguard_common::calls::{self, UdpCalls};
    use portguard_common::cursor::Linear;
    use portguard_common::rpc::Request;
    use portguard_testkit::oracle::headers::{Ipv4, Ipv6};

    use super::*;

    /// The builder of the tests, which shares nothing with this one.
    fn expected(source: IpAddr, protocol: Protocol, call: Procedure) -> Vec<u8> {
        let call = &udp(call)[8..];
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
            for (protocol, call) in
                Protocol::ALL.into_iter().flat_map(|protocol| Procedure::ALL.map(|call| (protocol, call)))
            {
                let packet = frame(LinkType::RawIp, source, protocol, call);
                assert_eq!(packet, expected(source, protocol, call), "{source} {protocol:?} {call:?}");
                let ethernet = frame(LinkType::Ethernet, source, protocol, call);
                assert_eq!(ethernet[14..], packet);
                assert_eq!(ethernet[12..14], if source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
                if protocol == Protocol::Udp {
                    let header = Linear::new(&packet[if source.is_ipv4() { 20 } else { 40 }..]);
                    assert_eq!(Request::of(header, protocol).procedure(), call);
                    assert_eq!(calls::is_lookup(header), UdpCalls::Lookups.permits(call), "{call:?}");
                }
            }
        }
    }
}
