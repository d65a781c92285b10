//! Headers byte for byte, right or wrong: every field can be set, and what is not set is as a well-behaved sender has it.
//!
//! Where [`crate::net::frame`] builds what a client sends, this builds what a parser must survive. Nothing here is shared
//! with the parser under test.

/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// An Ethernet header with tags (tag protocol identifier, tag control information), the outermost first.
pub fn ethernet(tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let mut bytes = vec![0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02];
    for (identifier, control) in tags {
        bytes.extend(identifier.to_be_bytes());
        bytes.extend(control.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes
}

/// An IPv4 header, RFC 791.
#[derive(Debug, Clone)]
pub struct Ipv4 {
    /// 4 bits.
    pub version: u8,
    /// Header length in units of four bytes, 4 bits; computed from the options if absent.
    pub ihl: Option<u8>,
    /// Differentiated services and congestion.
    pub tos: u8,
    /// Computed from the payload if absent.
    pub total_length: Option<u16>,
    /// For reassembly.
    pub identification: u16,
    /// Reserved, don't fragment, more fragments: 3 bits.
    pub flags: u8,
    /// In units of eight bytes, 13 bits.
    pub fragment_offset: u16,
    /// Hops left.
    pub time_to_live: u8,
    /// What the payload is.
    pub protocol: u8,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// A multiple of four bytes.
    pub options: Vec<u8>,
}

impl Default for Ipv4 {
    fn default() -> Self {
        Self {
            version: 4,
            ihl: None,
            tos: 0,
            total_length: None,
            identification: 0x1234,
            flags: 0,
            fragment_offset: 0,
            time_to_live: 64,
            protocol: UDP,
            source: [203, 0, 113, 9],
            destination: [192, 0, 2, 1],
            options: Vec::new(),
        }
    }
}

impl Ipv4 {
    /// The flag "more fragments".
    pub const MORE_FRAGMENTS: u8 = 1;

    /// The header with a valid checksum, and the payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let ihl = self.ihl.unwrap_or((header_length / 4) as u8);
        let total_length = self.total_length.unwrap_or((header_length + payload.len()) as u16);
        let fragment = u16::from(self.flags) << 13 | self.fragment_offset;
        let mut bytes = vec![self.version << 4 | ihl, self.tos];
        bytes.extend(total_length.to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([self.time_to_live, self.protocol, 0, 0]);
        bytes.extend(self.source);
        bytes.extend(self.destination);
        bytes.extend(&self.options);
        let checksum = checksum(&bytes, 0);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The sum over the pseudo header of a segment or datagram of `length` bytes, RFC 793 and RFC 768.
    fn pseudo_sum(&self, protocol: u8, length: usize) -> u32 {
        sum(&self.source) + sum(&self.destination) + u32::from(protocol) + length as u32
    }

    /// A UDP datagram in this packet.
    pub fn udp(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        self.packet(&udp(source_port, destination_port, payload, |length| self.pseudo_sum(UDP, length)))
    }

    /// A TCP segment with these flags in this packet.
    pub fn tcp(&self, source_port: u16, destination_port: u16, flags: u8) -> Vec<u8> {
        let header = Self { protocol: TCP, ..self.clone() };
        header.packet(&tcp(source_port, destination_port, flags, |length| self.pseudo_sum(TCP, length)))
    }
}

/// An IPv6 header, RFC 8200.
#[derive(Debug, Clone)]
pub struct Ipv6 {
    /// 4 bits.
    pub version: u8,
    /// 8 bits.
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Computed from the payload if absent.
    pub payload_length: Option<u16>,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Extension headers: the number of each, and its bytes, of which the first is overwritten with the next number.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self {
            version: 6,
            traffic_class: 0,
            flow_label: 0,
            payload_length: None,
            hop_limit: 64,
            source: std::net::Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 9).octets(),
            destination: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets(),
            extensions: Vec::new(),
        }
    }
}

impl Ipv6 {
    /// The header, the extension headers, and a payload of the kind `protocol`.
    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (first, chain) = chain(&self.extensions, protocol);
        let payload_length = self.payload_length.unwrap_or((chain.len() + payload.len()) as u16);
        let first_word =
            u32::from(self.version) << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut bytes = first_word.to_be_bytes().to_vec();
        bytes.extend(payload_length.to_be_bytes());
        bytes.extend([first, self.hop_limit]);
        bytes.extend(self.source);
        bytes.extend(self.destination);
        bytes.extend(chain);
        bytes.extend(payload);
        bytes
    }

    /// The sum over the pseudo header of an upper-layer packet of `length` bytes, RFC 8200, section 8.1.
    pub(crate) fn pseudo_sum(&self, protocol: u8, length: usize) -> u32 {
        sum(&self.source) + sum(&self.destination) + u32::from(protocol) + length as u32
    }

    /// A UDP datagram in this packet.
    pub fn udp(&self, source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
        self.packet(UDP, &udp(source_port, destination_port, payload, |length| self.pseudo_sum(UDP, length)))
    }

    /// A TCP segment with these flags in this packet.
    pub fn tcp(&self, source_port: u16, destination_port: u16, flags: u8) -> Vec<u8> {
        self.packet(TCP, &tcp(source_port, destination_port, flags, |length| self.pseudo_sum(TCP, length)))
    }
}

/// Extension headers, of which the last says that `protocol` follows; and the number of the first.
pub fn chain(extensions: &[(u8, Vec<u8>)], protocol: u8) -> (u8, Vec<u8>) {
    let mut numbers = extensions.iter().map(|(number, _)| *number).chain([protocol]);
    let first = numbers.next().unwrap_or(protocol);
    let mut bytes = Vec::new();
    for ((_, extension), next) in extensions.iter().zip(numbers) {
        let at = bytes.len();
        bytes.extend(extension);
        bytes[at] = next;
    }
    (first, bytes)
}

/// Extension headers of IPv6. The first byte, the next header, is filled in when they are chained.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication, RFC 4302.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Mobility, RFC 6275.
    pub const MOBILITY: u8 = 135;

    /// Options that are all padding: `8 * (units + 1)` bytes. For hop-by-hop and destination options.
    pub fn padding(number: u8, units: u8) -> (u8, Vec<u8>) {
        let mut bytes = vec![0, units];
        let mut left = 8 * (usize::from(units) + 1) - 2;
        while left > 0 {
            // PadN carries at most 255 bytes and takes two; a single byte left is Pad1.
            let option = left.min(257);
            if option == 1 {
                bytes.push(0);
            } else {
                bytes.extend([1, (option - 2) as u8]);
                bytes.resize(bytes.len() + option - 2, 0);
            }
            left -= option;
        }
        (number, bytes)
    }

    /// A routing header of a type that nobody uses, with no segments left: it is skipped by its receiver.
    pub fn routing(units: u8) -> (u8, Vec<u8>) {
        let mut bytes = vec![0, units, 253, 0];
        bytes.resize(8 * (usize::from(units) + 1), 0);
        (ROUTING, bytes)
    }

    /// A fragment header; `offset` in units of eight bytes.
    pub fn fragment(offset: u16, more: bool, reserved: u8) -> (u8, Vec<u8>) {
        let [high, low] = (offset << 3 | u16::from(reserved & 3) << 1 | u16::from(more)).to_be_bytes();
        (FRAGMENT, vec![0, reserved, high, low, 0, 0, 0x12, 0x34])
    }

    /// An authentication header with an integrity value of `4 * words` bytes.
    pub fn authentication(words: u8) -> (u8, Vec<u8>) {
        let mut bytes = vec![0, words + 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
        bytes.resize(12 + 4 * usize::from(words), 0xaa);
        (AUTHENTICATION, bytes)
    }

    /// A mobility header.
    pub fn mobility(units: u8) -> (u8, Vec<u8>) {
        let mut bytes = vec![0, units];
        bytes.resize(8 * (usize::from(units) + 1), 0);
        (MOBILITY, bytes)
    }
}

/// A UDP datagram; `pseudo_sum` gives the sum over the pseudo header for a length.
fn udp(
    source_port: u16,
    destination_port: u16,
    payload: &[u8],
    pseudo_sum: impl Fn(usize) -> u32,
) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut bytes = source_port.to_be_bytes().to_vec();
    bytes.extend(destination_port.to_be_bytes());
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    // A zero would mean "no checksum" (RFC 768).
    let checksum = match checksum(&bytes, pseudo_sum(length)) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A TCP segment without data.
fn tcp(source_port: u16, destination_port: u16, flags: u8, pseudo_sum: impl Fn(usize) -> u32) -> Vec<u8> {
    let mut bytes = source_port.to_be_bytes().to_vec();
    bytes.extend(destination_port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    let checksum = checksum(&bytes, pseudo_sum(bytes.len()));
    bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A message whose checksum, at `at`, is that over itself and what was summed up before.
pub(crate) fn with_checksum(mut message: Vec<u8>, at: usize, before: u32) -> Vec<u8> {
    let checksum = checksum(&message, before);
    message[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// The sum of 16-bit words, the last one padded with a zero.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum()
}

/// The internet checksum, RFC 1071, over `bytes` and what was summed up before.
pub(crate) fn checksum(bytes: &[u8], before: u32) -> u16 {
    let mut total = before + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, SocketAddrV6};

    use super::*;
    use crate::net::frame::{Flow, Packet};

    #[test]
    fn well_behaved_packets_are_those_of_the_other_builder() {
        let v4 = Ipv4 { identification: 0, flags: 2, ..Ipv4::default() };
        let flow = Flow::V4(
            SocketAddrV4::new(v4.source.into(), 4000),
            SocketAddrV4::new(v4.destination.into(), 111),
        );
        assert_eq!(v4.udp(4000, 111, b"seven b"), Packet::udp(flow, b"seven b").bytes());
        assert_eq!(v4.tcp(4000, 111, 2).len(), Packet::tcp_syn(flow).bytes().len());

        let v6 = Ipv6::default();
        let flow = Flow::V6(
            SocketAddrV6::new(v6.source.into(), 4000, 0, 0),
            SocketAddrV6::new(v6.destination.into(), 111, 0, 0),
        );
        assert_eq!(v6.udp(4000, 111, b"seven b"), Packet::udp(flow, b"seven b").bytes());
    }

    #[test]
    fn padding_fills_the_header() {
        for units in [0, 1, 31, 32, 255] {
            let (_, bytes) = extension::padding(extension::HOP_BY_HOP, units);
            assert_eq!(bytes.len(), 8 * (usize::from(units) + 1));
        }
    }
}
