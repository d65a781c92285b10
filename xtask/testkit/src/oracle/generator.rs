//! Random frames: every kind of header that the guard must find its way through, right more often than wrong.

use std::net::Ipv6Addr;

use fastrand::Rng;

use super::calls;
use super::cover::{SOURCES_V4, SOURCES_V6};
use super::mutate::{mend_checksum, mutate};
use crate::oracle::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, TCP, UDP, chain, ethernet, extension,
};

/// The frames of one datagram or segment: one, or its fragments in the order in which they are sent.
pub type Datagram = Vec<Vec<u8>>;

const GUARDED: u16 = 111;
/// Other ports: neighbours, the guarded one with its bytes swapped, what looks like it, and what everybody uses.
const OTHERS: [u16; 8] = [112, 110, 111 << 8, 0x6f6f, 53, 443, 0, 65_535];
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SYN: u8 = 0x02;

/// How wild the frames are.
#[derive(Debug, Clone, Copy)]
struct Temper {
    /// Of a hundred frames, how many are damaged.
    damaged: u8,
    /// Of a hundred headers, how many have an odd field, or stand behind odd headers.
    odd: u8,
    /// Of a hundred damaged IPv4 headers, how many have a right checksum again.
    mended: u8,
    /// Units of eight bytes of the largest extension header.
    longest: u8,
    /// Whether there are calls to rpcbind in the datagrams.
    calls: bool,
}

/// An endless sequence of random frames, the same for the same seed.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    temper: Temper,
    /// Counts the datagrams: it is in their payloads and tells their fragments apart.
    number: u32,
}

impl Generator {
    /// Frames for a parser.
    pub fn wild(seed: u64) -> Self {
        let temper = Temper { damaged: 50, odd: 25, mended: 0, longest: 255, calls: false };
        Self { rng: Rng::with_seed(seed), temper, number: 0 }
    }

    /// Frames for a parser that reads calls.
    pub fn calls(seed: u64) -> Self {
        let temper = Temper { damaged: 20, odd: 10, mended: 0, longest: 8, calls: true };
        Self { rng: Rng::with_seed(seed), temper, number: 0 }
    }

    /// Frames of which Linux delivers many.
    pub fn tame(seed: u64) -> Self {
        let temper = Temper { damaged: 20, odd: 6, mended: 80, longest: 8, calls: false };
        Self { rng: Rng::with_seed(seed), temper, number: 0 }
    }

    /// The next datagram.
    pub fn datagram(&mut self) -> Datagram {
        self.number = self.number.wrapping_add(1);
        let (ethertype, packets) =
            if self.rng.bool() { (ETHERTYPE_IPV4, self.ipv4()) } else { (ETHERTYPE_IPV6, self.ipv6()) };
        let tags = self.tags();
        let ethertype = if self.rng.u8(..) == 0 { self.rng.u16(..) } else { ethertype };
        let mut frames: Datagram = packets
            .into_iter()
            .map(|packet| {
                let mut frame = ethernet(&tags, ethertype);
                frame.extend(packet);
                frame
            })
            .collect();
        for frame in &mut frames {
            if self.chance(self.temper.damaged) {
                mutate(&mut self.rng, frame);
                if self.chance(self.temper.mended) {
                    mend_checksum(frame);
                }
            }
        }
        frames
    }

    fn chance(&mut self, of_a_hundred: u8) -> bool {
        self.rng.u8(..100) < of_a_hundred
    }

    fn is_odd(&mut self) -> bool {
        self.chance(self.temper.odd)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())]
    }

    /// Mostly none. With identifier 0, which Linux looks through without a VLAN device, half of the time.
    fn tags(&mut self) -> Vec<(u16, u16)> {
        let count = match self.rng.u8(..64) {
            0..52 => 0,
            52..56 => 1,
            56..58 => 2,
            58 => 3,
            59..61 => 4,
            61 => 5,
            62 => 6,
            _ => self.rng.usize(..12),
        };
        let is_priority = self.rng.bool();
        let tag = |rng: &mut Rng| {
            let control = if is_priority { rng.u16(..) & 0xf000 } else { rng.u16(..) };
            (if rng.bool() { 0x8100 } else { 0x88a8 }, control)
        };
        (0..count).map(|_| tag(&mut self.rng)).collect()
    }

    fn ports(&mut self) -> (u16, u16) {
        let source = if self.rng.u8(..4) == 0 { GUARDED } else { self.rng.u16(1024..) };
        let destination = match self.rng.u8(..8) {
            0..4 => GUARDED,
            4..6 => OTHERS[0],
            _ => self.pick(&OTHERS),
        };
        (source, destination)
    }

    /// A call; or the number of the datagram, and something behind it.
    fn payload(&mut self) -> Vec<u8> {
        if self.temper.calls {
            return calls::random(&mut self.rng);
        }
        let mut payload = self.number.to_be_bytes().to_vec();
        // Now and then too short for its number.
        let length = if self.rng.u8(..32) == 0 { self.rng.usize(..4) } else { 4 + self.rng.usize(..60) };
        if self.rng.bool() {
            payload.resize(length, 0x5a);
        } else {
            // What a parser that looks for ports in the wrong place would take for the guarded one.
            payload.extend([0x9c, 0x40, 0, 111].into_iter().cycle().take(64));
            payload.truncate(length);
        }
        payload
    }

    fn flags(&mut self) -> u8 {
        if self.rng.u8(..4) > 0 { SYN } else { self.rng.u8(..) }
    }

    fn echo(&self, request: u8) -> Vec<u8> {
        let mut message = vec![request, 0, 0, 0];
        message.extend(self.number.to_be_bytes());
        message
    }

    fn ipv4(&mut self) -> Vec<Vec<u8>> {
        let mut header = Ipv4 {
            source: self.pick(&SOURCES_V4).octets(),
            identification: (self.number as u16).wrapping_mul(0x9e37),
            ..Ipv4::default()
        };
        if self.rng.u8(..16) == 0 {
            header.destination = self.pick(&[[192, 0, 2, 255], [255; 4], [224, 0, 0, 1], [192, 0, 2, 77]]);
        }
        if self.rng.u8(..6) == 0 {
            let words = self.rng.usize(1..=10);
            header.options = self.pick(&[[1; 4], [0; 4], [0x9c, 0x40, 0, 111]]).repeat(words);
        }
        if self.is_odd() {
            match self.rng.u8(..8) {
                0 => header.version = self.rng.u8(..16),
                1 => header.ihl = Some(self.rng.u8(..16)),
                2 => header.tos = self.rng.u8(..),
                3 => header.total_length = Some(self.rng.u16(..200)),
                4 => header.flags = self.rng.u8(..8),
                5 => header.fragment_offset = self.rng.u16(..0x2000),
                6 => header.time_to_live = self.rng.u8(..3),
                _ => header.total_length = Some(0),
            }
        }
        let (source_port, port) = self.ports();
        let whole = match self.rng.u8(..32) {
            0..18 => header.udp(source_port, port, &self.payload()),
            18..28 => header.tcp(source_port, port, self.flags()),
            28..30 => {
                header.protocol = ICMP;
                let echo = crate::oracle::headers::with_checksum(self.echo(ECHO_REQUEST_V4), 2, 0);
                header.packet(&echo)
            }
            30 => {
                // The one extension header that IPv4 has.
                let count = if self.is_odd() { self.rng.usize(..20) } else { 1 };
                let headers: Vec<_> =
                    (0..count).map(|_| extension::authentication(self.rng.u8(..8))).collect();
                let (number, mut bytes) = chain(&headers, self.pick(&[UDP, TCP]));
                bytes.extend([0x9c, 0x40]);
                bytes.extend(port.to_be_bytes());
                bytes.extend([0, 8, 0, 0]);
                header.protocol = number;
                header.packet(&bytes)
            }
            _ => {
                header.protocol = self.rng.u8(..);
                header.packet(&self.payload())
            }
        };
        if self.rng.u8(..8) > 0 || header.ihl.is_some() || header.version != 4 {
            return vec![whole];
        }
        let behind = whole[20 + header.options.len()..].to_vec();
        header.protocol = whole[9];
        let offset = header.fragment_offset;
        self.in_pieces(&behind, |at, more, piece| {
            let flags = if more { Ipv4::MORE_FRAGMENTS } else { 0 };
            Ipv4 { flags, fragment_offset: offset.wrapping_add(at) & 0x1fff, ..header.clone() }.packet(piece)
        })
    }

    fn ipv6(&mut self) -> Vec<Vec<u8>> {
        let mut header = Ipv6 { source: self.pick(&SOURCES_V6).octets(), ..Ipv6::default() };
        if self.rng.u8(..16) == 0 {
            header.destination = self.pick(&[
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets(),
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77).octets(),
            ]);
        }
        header.extensions = self.extensions();
        if self.is_odd() {
            match self.rng.u8(..5) {
                0 => header.version = self.rng.u8(..16),
                1 => header.traffic_class = self.rng.u8(..),
                2 => header.flow_label = self.rng.u32(..1 << 20),
                3 => header.payload_length = Some(self.rng.u16(..200)),
                _ => header.hop_limit = self.rng.u8(..3),
            }
        }
        let in_front: usize = 40 + header.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let (source_port, port) = self.ports();
        let (protocol, whole) = match self.rng.u8(..32) {
            0..18 => (UDP, header.udp(source_port, port, &self.payload())),
            18..29 => (TCP, header.tcp(source_port, port, self.flags())),
            29..31 => {
                let echo = self.echo(ECHO_REQUEST_V6);
                let pseudo = header.pseudo_sum(ICMPV6, echo.len());
                (ICMPV6, header.packet(ICMPV6, &crate::oracle::headers::with_checksum(echo, 2, pseudo)))
            }
            _ => {
                let protocol = self.rng.u8(..);
                (protocol, header.packet(protocol, &self.payload()))
            }
        };
        if self.rng.u8(..8) > 0 {
            return vec![whole];
        }
        let behind = whole[in_front..].to_vec();
        let reserved = if self.is_odd() { self.rng.u8(..4) } else { 0 };
        let identification = self.number.wrapping_mul(0x9e37_79b1);
        self.in_pieces(&behind, |at, more, piece| {
            let (number, mut fragment) = extension::fragment(at, more, reserved);
            fragment[4..8].copy_from_slice(&identification.to_be_bytes());
            let mut header = header.clone();
            header.extensions.push((number, fragment));
            header.packet(protocol, piece)
        })
    }

    /// A few extension headers, seldom many.
    fn extensions(&mut self) -> Vec<(u8, Vec<u8>)> {
        let count = match self.rng.u8(..32) {
            0..20 => 0,
            20..25 => 1,
            25..28 => 2,
            28..30 => self.rng.usize(3..=8),
            30 => self.rng.usize(15..=17),
            _ => self.rng.usize(..24),
        };
        // Headers that Linux looks through, however many.
        if self.rng.bool() {
            return vec![options(extension::DESTINATION_OPTIONS, 0); count];
        }
        let mut budget = 8000_usize;
        (0..count)
            .map(|position| {
                let units = match self.rng.u8(..8) {
                    0..5 => 0,
                    5..7 => self.rng.u8(..4),
                    _ => self.rng.u8(..=self.temper.longest),
                };
                let units = if usize::from(units) * 8 > budget { 0 } else { units };
                budget = budget.saturating_sub(8 * usize::from(units));
                let is_wild = self.is_odd();
                match self.rng.u8(..12) {
                    // Linux takes these in front only.
                    0..2 if position == 0 || is_wild => options(extension::HOP_BY_HOP, units),
                    0..7 => options(extension::DESTINATION_OPTIONS, units),
                    7..9 => extension::routing(units),
                    9 => extension::fragment(0, false, 0),
                    10 if is_wild => {
                        extension::fragment(self.rng.u16(..0x2000), self.rng.bool(), self.rng.u8(..4))
                    }
                    // Linux does not go beyond these without IPsec or mobility.
                    10 => extension::authentication(units.min(60)),
                    _ if is_wild => extension::mobility(units),
                    _ => options(extension::DESTINATION_OPTIONS, 0),
                }
            })
            .collect()
    }

    /// Cuts a payload into two to four pieces at multiples of eight bytes, and shuffles them half of the time.
    fn in_pieces(&mut self, payload: &[u8], packet: impl Fn(u16, bool, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
        let units = payload.len() / 8;
        let mut cuts: Vec<usize> = (0..self.rng.usize(1..4)).map(|_| 8 * self.rng.usize(..=units)).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<Vec<u8>> = cuts
            .windows(2)
            .map(|cut| packet((cut[0] / 8) as u16, cut[1] < payload.len(), &payload[cut[0]..cut[1]]))
            .collect();
        if self.rng.bool() {
            self.rng.shuffle(&mut pieces);
        }
        pieces
    }
}

/// Options that Linux skips, however long: it takes no more than seven bytes of padding in one place (RFC 8504, 5.3),
/// but any length of an option that it does not know and that says "skip me" (RFC 8200, section 4.2).
fn options(number: u8, units: u8) -> (u8, Vec<u8>) {
    const EXPERIMENT: u8 = 0x1e;
    if units == 0 || units > 31 {
        return extension::padding(number, units);
    }
    let length = 8 * (usize::from(units) + 1);
    let mut bytes = vec![0, units, EXPERIMENT, (length - 4) as u8];
    bytes.resize(length, 0);
    (number, bytes)
}
