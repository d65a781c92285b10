//! Link layer: Ethernet II with 802.1Q and 802.1ad tags, and links without a header of their own.
//!
//! Linux does not take IP from frames with a length instead of an ethertype (802.3 with LLC), so these frames pass.

use crate::cursor::Cursor;
use crate::layout::Wire;

/// The most VLAN tags in front of a packet. Linux itself has no limit. Two are in use (802.1ad), and each further tag
/// adds to the verifier's work on every path after it.
pub const MAX_VLAN_TAGS: usize = 4;

/// The most VLAN tags of a common frame.
pub(crate) const COMMON_VLAN_TAGS: usize = 1;

/// The most bytes of a frame that [`parse`] reads.
pub const LONGEST_HEADER: usize = size_of::<EthernetHeader>() + MAX_VLAN_TAGS * size_of::<VlanTag>();

/// The kind of header at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LinkType {
    /// An Ethernet header (`ARPHRD_ETHER`).
    Ethernet = 0,
    /// The IP header: tun, wireguard and the like (`ARPHRD_NONE`, `ARPHRD_RAWIP`).
    RawIp = 1,
}

/// What a frame begins with, as a hook hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An Ethernet header, behind which the kernel has taken off so many VLAN tags (`skb_vlan_untag` in `net/core/skbuff.c`).
    Ethernet {
        /// Their number.
        tags_taken_off: usize,
    },
    /// An IP header, whose version tells the family.
    Ip,
    /// What the kernel has found in front of it (`skb->protocol`).
    Told {
        /// The protocol.
        ethertype: EtherType,
        /// How many VLAN tags the kernel has taken off.
        tags_taken_off: usize,
    },
}

impl From<LinkType> for Start {
    /// As it was on the wire.
    #[inline(always)]
    fn from(link_type: LinkType) -> Self {
        match link_type {
            LinkType::Ethernet => Self::Ethernet { tags_taken_off: 0 },
            LinkType::RawIp => Self::Ip,
        }
    }
}

/// An ethertype (IEEE 802 numbers): its two bytes on the wire, read as a native integer. A check then takes one load
/// and one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EtherType(pub u16);

const IPV4: EtherType = EtherType::of([0x08, 0x00]);
const IPV6: EtherType = EtherType::of([0x86, 0xdd]);
/// 802.1Q.
const VLAN: EtherType = EtherType::of([0x81, 0x00]);
/// 802.1ad, the outer tag of "QinQ". Linux knows only these two (`eth_type_vlan` in `include/linux/if_vlan.h`).
const SERVICE_VLAN: EtherType = EtherType::of([0x88, 0xa8]);

impl EtherType {
    #[inline(always)]
    const fn of(wire: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(wire))
    }
}

/// IEEE 802.3, clause 3.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct EthernetHeader {
    _destination: [u8; 6],
    _source: [u8; 6],
    ethertype_be: [u8; 2],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for EthernetHeader {}

/// IEEE 802.1Q, clause 9.6: the tag control information, and the ethertype of what follows.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct VlanTag {
    _control_be: [u8; 2],
    ethertype_be: [u8; 2],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for VlanTag {}

/// The content of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Link<C> {
    /// An IPv4 packet begins here.
    Ipv4(C),
    /// An IPv6 packet begins here.
    Ipv6(C),
    /// Anything else.
    Other,
    /// The frame ends before the field that shows what it carries. Linux does not take it for IP.
    CutShort,
    /// More tags than the caller permits. The cursor is at the end of the last permitted tag.
    TooManyTags(C),
}

/// Determines what the frame carries. `frame` is a cursor at its first byte. The frame may have up to `tags` VLAN tags, with those that were
/// taken off.
#[inline(always)]
pub fn parse<C: Cursor>(frame: C, start: Start, tags: usize) -> Link<C> {
    match start {
        Start::Ethernet { tags_taken_off } => {
            ethernet(frame, tags.saturating_sub(tags_taken_off)).unwrap_or(Link::CutShort)
        }
        Start::Told { ethertype, tags_taken_off } => {
            tagged(frame, ethertype, tags.saturating_sub(tags_taken_off)).unwrap_or(Link::CutShort)
        }
        Start::Ip => match frame.peek().map(|byte| byte >> 4) {
            Some(4) => Link::Ipv4(frame),
            Some(6) => Link::Ipv6(frame),
            Some(_) => Link::Other,
            None => Link::CutShort,
        },
    }
}

/// The ethertype of the Ethernet header at a cursor, if there is one.
#[inline(always)]
pub fn ethertype(mut cursor: impl Cursor) -> Option<EtherType> {
    Some(EtherType::of(cursor.read::<EthernetHeader>()?.ethertype_be))
}

#[inline(always)]
fn ethernet<C: Cursor>(mut cursor: C, tags: usize) -> Option<Link<C>> {
    let ethertype = EtherType::of(cursor.read::<EthernetHeader>()?.ethertype_be);
    tagged(cursor, ethertype, tags)
}

/// What is behind up to `tags` VLAN tags; the first ethertype stands in front of the cursor.
#[inline(always)]
fn tagged<C: Cursor>(mut cursor: C, mut ethertype: EtherType, tags: usize) -> Option<Link<C>> {
    for _ in 0..tags {
        if !is_vlan(ethertype) {
            break;
        }
        ethertype = EtherType::of(cursor.read::<VlanTag>()?.ethertype_be);
    }
    Some(match ethertype {
        IPV4 => Link::Ipv4(cursor),
        IPV6 => Link::Ipv6(cursor),
        VLAN | SERVICE_VLAN => Link::TooManyTags(cursor),
        _ => Link::Other,
    })
}

#[inline(always)]
fn is_vlan(ethertype: EtherType) -> bool {
    ethertype == VLAN || ethertype == SERVICE_VLAN
}
