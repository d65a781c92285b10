//! What must become of a frame, found out with etherparse: the second opinion on `portguard-common`.
//!
//! Each header is read by etherparse, which so decides where it ends; which header follows, and what that means for
//! the guard, is a derivation from the product's table of its own. Where etherparse and the guard see a header
//! differently on purpose, it says so here:
//!
//! - etherparse keeps three VLAN tags of a frame, and wants hop-by-hop options first: so the oracle goes from header to
//!   header itself, and asks etherparse for one at a time.
//! - An authentication header of length zero is shorter than RFC 4302 allows. Linux reads no further; the guard takes
//!   the length at its word.
//! - A header that the frame cuts short is a fault only if ports could follow.

use std::net::IpAddr;

use etherparse::err::ip_auth::HeaderSliceError as AuthError;
use etherparse::err::ipv4::HeaderSliceError as Ipv4Error;
use etherparse::err::ipv6::HeaderSliceError as Ipv6Error;
use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice,
    Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, LaxNetSlice, LaxSlicedPacket, SingleVlanHeaderSlice,
    TcpHeaderSlice, TransportSlice, UdpHeaderSlice,
};

use super::calls;

/// The most VLAN tags that are looked through.
const TAGS: usize = 4;
/// The most extension headers that are looked through.
const EXTENSIONS: usize = 16;
/// rpcbind's.
const PORT: u16 = 111;

/// What a frame is to the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// None of its business.
    Other,
    /// TCP or UDP for port 111.
    Candidate {
        /// Who claims to have sent it.
        source: IpAddr,
        /// TCP, not UDP.
        is_tcp: bool,
    },
    /// IP that is cut short.
    Truncated,
    /// IP that contradicts itself.
    Malformed,
    /// More tags or extension headers than are looked through.
    TooManyHeaders,
}

/// What the frame is, and how many bytes it has from the IP header on; of a frame that is not IP, the number means
/// nothing.
pub fn judge(frame: &[u8]) -> (Finding, usize) {
    let Some((ethertype, packet)) = link(frame) else { return (Finding::Other, 0) };
    let finding = match examine(ethertype, packet) {
        Ok(Candidate { source, is_tcp, .. }) => Finding::Candidate { source, is_tcp },
        Err(finding) => finding,
    };
    (finding, packet.len())
}

/// Whether a frame for port 111 has one whole lookup over UDP, which is not fragmented.
pub fn is_lookup(frame: &[u8]) -> bool {
    let candidate = link(frame).and_then(|(ethertype, packet)| examine(ethertype, packet).ok());
    candidate.is_some_and(|it| !it.is_tcp && !it.is_fragment && calls::is_lookup(it.transport))
}

/// The source of a frame that has a UDP datagram for port 111.
pub fn source_over_udp(frame: &[u8]) -> Option<IpAddr> {
    let (ethertype, packet) = link(frame)?;
    examine(ethertype, packet).ok().filter(|it| !it.is_tcp).map(|it| it.source)
}

/// A segment or datagram for port 111.
struct Candidate<'f> {
    source: IpAddr,
    is_tcp: bool,
    /// It is the first fragment of several.
    is_fragment: bool,
    /// Its TCP or UDP header, and what follows.
    transport: &'f [u8],
}

/// What is no candidate is an error here.
fn examine(ethertype: EtherType, packet: &[u8]) -> Result<Candidate<'_>, Finding> {
    match ethertype {
        EtherType::IPV4 => ipv4(packet),
        EtherType::IPV6 => ipv6(packet),
        ethertype if is_vlan(ethertype) => Err(Finding::TooManyHeaders),
        _ => Err(Finding::Other),
    }
}

/// The destination port, as etherparse finds it when it takes the whole frame apart by itself; `None` where it
/// finds none, because there is none, or because a length or an order of headers displeases it.
pub fn port_by_the_book(frame: &[u8]) -> Option<u16> {
    let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
    // Linux sees no packet in MACsec without a device for it, nor behind tags of the kind 0x9100, nor where the
    // ethertype and the version in the header contradict each other; etherparse does.
    let is_what_it_says = matches!(
        (link(frame)?.0, sliced.net?),
        (EtherType::IPV4, LaxNetSlice::Ipv4(_)) | (EtherType::IPV6, LaxNetSlice::Ipv6(_))
    );
    if !is_what_it_says {
        return None;
    }
    match sliced.transport? {
        TransportSlice::Udp(datagram) => Some(datagram.destination_port()),
        TransportSlice::Tcp(segment) => Some(segment.destination_port()),
        TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => None,
    }
}

/// The ethertype behind the tags, and what comes after it; `None` if the frame ends before.
fn link(frame: &[u8]) -> Option<(EtherType, &[u8])> {
    let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let mut ethertype = header.ether_type();
    let mut rest = &frame[header.slice().len()..];
    for _ in 0..TAGS {
        if !is_vlan(ethertype) {
            break;
        }
        let tag = SingleVlanHeaderSlice::from_slice(rest).ok()?;
        ethertype = tag.ether_type();
        rest = &rest[tag.slice().len()..];
    }
    Some((ethertype, rest))
}

/// The two that Linux takes for tags.
fn is_vlan(ethertype: EtherType) -> bool {
    ethertype == EtherType::VLAN_TAGGED_FRAME || ethertype == EtherType::PROVIDER_BRIDGING
}

fn ipv4(packet: &[u8]) -> Result<Candidate<'_>, Finding> {
    let header = match Ipv4HeaderSlice::from_slice(packet) {
        Ok(header) => header,
        Err(Ipv4Error::Len(_)) => return Err(Finding::Truncated),
        Err(Ipv4Error::Content(_)) => return Err(Finding::Malformed),
    };
    if header.fragments_offset().value() > 0 {
        return Err(Finding::Other);
    }
    let behind = &packet[header.slice().len()..];
    payload(header.source_addr().into(), header.protocol(), header.more_fragments(), behind, |number| {
        number == IpNumber::AUTHENTICATION_HEADER
    })
}

fn ipv6(packet: &[u8]) -> Result<Candidate<'_>, Finding> {
    let header = match Ipv6HeaderSlice::from_slice(packet) {
        Ok(header) => header,
        Err(Ipv6Error::Len(_)) => return Err(Finding::Truncated),
        Err(Ipv6Error::Content(_)) => return Err(Finding::Malformed),
    };
    let behind = &packet[header.slice().len()..];
    payload(header.source_addr().into(), header.next_header(), false, behind, |number| {
        [
            IpNumber::IPV6_HEADER_HOP_BY_HOP,
            IpNumber::IPV6_ROUTE_HEADER,
            IpNumber::IPV6_FRAGMENTATION_HEADER,
            IpNumber::AUTHENTICATION_HEADER,
            IpNumber::IPV6_DESTINATION_OPTIONS,
            IpNumber::MOBILITY_HEADER,
        ]
        .contains(&number)
    })
}

/// What follows the IP header, of which `is_extension` says what it counts as its own.
fn payload(
    source: IpAddr,
    mut number: IpNumber,
    mut is_fragment: bool,
    mut rest: &[u8],
    is_extension: impl Fn(IpNumber) -> bool,
) -> Result<Candidate<'_>, Finding> {
    let mut passed = 0;
    loop {
        if number == IpNumber::UDP || number == IpNumber::TCP {
            let is_tcp = number == IpNumber::TCP;
            return match destination_port(is_tcp, rest) {
                None => Err(Finding::Truncated),
                Some(PORT) => Ok(Candidate { source, is_tcp, is_fragment, transport: rest }),
                Some(_) => Err(Finding::Other),
            };
        }
        if !is_extension(number) {
            return Err(Finding::Other);
        }
        if passed == EXTENSIONS {
            return Err(Finding::TooManyHeaders);
        }
        passed += 1;
        match extension(number, rest) {
            Extension::Whole { next, length, more } => {
                is_fragment |= more;
                number = next;
                rest = &rest[length..];
            }
            Extension::Cut { next: Some(next) } => {
                number = next;
                rest = &[];
            }
            Extension::Cut { next: None } => return Err(Finding::Truncated),
            Extension::LaterFragment => return Err(Finding::Other),
        }
    }
}

enum Extension {
    Whole {
        next: IpNumber,
        length: usize,
        /// More fragments follow.
        more: bool,
    },
    /// The frame ends in it; what follows is known if its first eight bytes are there.
    Cut {
        next: Option<IpNumber>,
    },
    LaterFragment,
}

fn extension(number: IpNumber, rest: &[u8]) -> Extension {
    let whole = |next, length| Extension::Whole { next, length, more: false };
    let cut = || Extension::Cut { next: (rest.len() >= 8).then(|| IpNumber(rest[0])) };
    match number {
        IpNumber::IPV6_FRAGMENTATION_HEADER => match Ipv6FragmentHeaderSlice::from_slice(rest) {
            Ok(header) if header.fragment_offset().value() > 0 => Extension::LaterFragment,
            Ok(header) => Extension::Whole {
                next: header.next_header(),
                length: header.slice().len(),
                more: header.more_fragments(),
            },
            Err(_) => cut(),
        },
        IpNumber::AUTHENTICATION_HEADER => match IpAuthHeaderSlice::from_slice(rest) {
            Ok(header) => whole(header.next_header(), header.slice().len()),
            Err(AuthError::Content(_)) => whole(IpNumber(rest[0]), 8),
            // etherparse asks for twelve bytes before it looks at a length that says eight.
            Err(AuthError::Len(_)) if rest.len() >= 8 && rest[1] == 0 => whole(IpNumber(rest[0]), 8),
            Err(AuthError::Len(_)) => cut(),
        },
        _ => match Ipv6RawExtHeaderSlice::from_slice(rest) {
            Ok(header) => whole(header.next_header(), header.slice().len()),
            Err(_) => cut(),
        },
    }
}

/// A whole header by etherparse; of one that is cut (a first fragment may be), the port alone.
fn destination_port(is_tcp: bool, rest: &[u8]) -> Option<u16> {
    let whole = if is_tcp {
        TcpHeaderSlice::from_slice(rest).ok().map(|header| header.destination_port())
    } else {
        UdpHeaderSlice::from_slice(rest).ok().map(|header| header.destination_port())
    };
    whole.or_else(|| Some(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?)))
}
