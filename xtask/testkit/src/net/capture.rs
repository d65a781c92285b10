//! A witness on the wire, with a parser (etherparse) that shares nothing with portguard's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::AddAssign;
use std::time::Duration;

use anyhow::Result;
use etherparse::{
    Ethernet2Header, IpNumber, Ipv6ExtensionSlice, Ipv6ExtensionsSlice, LaxNetSlice, LaxSlicedPacket,
    SingleVlanHeader, UdpHeader, UdpHeaderSlice,
};
use serde::Deserialize;

use super::{Namespace, PacketSocket, rpc};

/// How long no frame may come until the wire counts as quiet.
const QUIET: Duration = Duration::from_millis(50);

/// Packets, and the bytes they have from the IP header on (link headers do not count).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Their lengths, added up.
    pub bytes: u64,
}

impl Count {
    /// What has come since `earlier`, which is an earlier value of the same counter.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { packets: self.packets - earlier.packets, bytes: self.bytes - earlier.bytes }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets ({} bytes)", self.packets, self.bytes)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// All of them together.
pub fn sum(counts: impl IntoIterator<Item = Count>) -> Count {
    counts.into_iter().fold(Count::default(), |mut sum, count| {
        sum += count;
        sum
    })
}

/// What rpcbind's answers over UDP did to the one who got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replies {
    /// The answers.
    pub datagrams: u64,
    /// The bytes of the answers themselves, without any header.
    pub payload: u64,
    /// The packets that carried them; an answer beyond the MTU takes several.
    pub wire: Count,
}

/// All that passes an interface, from the start on.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
    seen: Vec<Seen>,
}

impl Capture {
    /// Starts to listen. Frames wait in the socket until they are asked for.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        Ok(Self { socket: PacketSocket::open(namespace, interface)?, seen: Vec::new() })
    }

    /// The packets to port 111, UDP and TCP, by source.
    pub fn requests(&mut self) -> Result<BTreeMap<IpAddr, Count>> {
        self.to_port(rpc::PORT)
    }

    /// The packets to a port, UDP and TCP, by source.
    pub fn to_port(&mut self, port: u16) -> Result<BTreeMap<IpAddr, Count>> {
        self.by_source(|(_, to)| to == port)
    }

    /// The packets from a port, UDP and TCP, by source.
    pub fn from_port(&mut self, port: u16) -> Result<BTreeMap<IpAddr, Count>> {
        self.by_source(|(from, _)| from == port)
    }

    fn by_source(&mut self, is_wanted: impl Fn((u16, u16)) -> bool) -> Result<BTreeMap<IpAddr, Count>> {
        self.drain()?;
        let mut sources = BTreeMap::<_, Count>::new();
        for frame in self.seen.iter().filter(|frame| frame.ports().is_some_and(&is_wanted)) {
            *sources.entry(frame.source).or_default() += frame.count();
        }
        Ok(sources)
    }

    /// rpcbind's answers from `server` over UDP, to whomever.
    pub fn replies(&mut self, server: IpAddr) -> Result<Replies> {
        self.drain()?;
        let mut replies = Replies::default();
        // Later fragments have no port; they belong to the datagram whose first one had it.
        let mut fragmented = BTreeSet::new();
        for frame in self.seen.iter().filter(|frame| frame.source == server) {
            match (frame.part, frame.fragment_of) {
                (Part::Udp { from: rpc::PORT, payload, .. }, datagram) => {
                    replies.datagrams += 1;
                    replies.payload += payload;
                    replies.wire += frame.count();
                    fragmented.extend(datagram);
                }
                (Part::Later, Some(datagram)) if fragmented.contains(&datagram) => {
                    replies.wire += frame.count();
                }
                _ => {}
            }
        }
        Ok(replies)
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(frame) = self.socket.receive(QUIET)? {
            self.seen.extend(Seen::parse(&frame));
        }
        self.socket.ensure_lossless()
    }
}

/// What matters of a frame with an IP packet inside.
#[derive(Debug, Clone, Copy)]
struct Seen {
    source: IpAddr,
    fragment_of: Option<u32>,
    part: Part,
    length: u64,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    /// `payload` is that of the whole datagram, also in its first fragment.
    Udp {
        from: u16,
        to: u16,
        payload: u64,
    },
    Tcp {
        from: u16,
        to: u16,
    },
    /// A fragment other than the first.
    Later,
    Other,
}

impl Seen {
    fn parse(frame: &[u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let link_header = Ethernet2Header::LEN + sliced.link_exts.len() * SingleVlanHeader::LEN;
        let (source, payload, fragment) = match sliced.net? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let fragment = header
                    .is_fragmenting_payload()
                    .then(|| (u32::from(header.identification()), header.fragments_offset().value() > 0));
                (IpAddr::V4(header.source_addr()), ip.payload().clone(), fragment)
            }
            LaxNetSlice::Ipv6(ip) => {
                (IpAddr::V6(ip.header().source_addr()), ip.payload().clone(), fragment_v6(ip.extensions()))
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let part = match (fragment, payload.ip_number) {
            (Some((_, true)), _) => Part::Later,
            (_, IpNumber::UDP) => {
                let udp = UdpHeaderSlice::from_slice(payload.payload).ok()?;
                let payload = u64::from(udp.length()).saturating_sub(UdpHeader::LEN as u64);
                Part::Udp { from: udp.source_port(), to: udp.destination_port(), payload }
            }
            (_, IpNumber::TCP) => {
                let [from0, from1, to0, to1, ..] = *payload.payload else { return None };
                Part::Tcp { from: u16::from_be_bytes([from0, from1]), to: u16::from_be_bytes([to0, to1]) }
            }
            _ => Part::Other,
        };
        Some(Self {
            source,
            fragment_of: fragment.map(|(id, _)| id),
            part,
            length: (frame.len() - link_header) as u64,
        })
    }

    fn ports(&self) -> Option<(u16, u16)> {
        match self.part {
            Part::Udp { from, to, .. } | Part::Tcp { from, to } => Some((from, to)),
            Part::Later | Part::Other => None,
        }
    }

    fn count(&self) -> Count {
        Count { packets: 1, bytes: self.length }
    }
}

/// Identification, and whether it is a later fragment.
fn fragment_v6(extensions: &Ipv6ExtensionsSlice<'_>) -> Option<(u32, bool)> {
    extensions.clone().into_iter().find_map(|extension| match extension {
        Ipv6ExtensionSlice::Fragment(header) => {
            Some((header.identification(), header.fragment_offset().value() > 0))
        }
        _ => None,
    })
}
