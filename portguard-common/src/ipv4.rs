//! IPv4 (RFC 791), as far as it decides which port a packet is for.
//!
//! The total length and the checksum do not influence the verdict. Linux itself drops packets with a wrong length or
//! checksum. It also leaves the length at zero in the largest packets that it assembles (BIG TCP), and generic XDP sees
//! these packets.

use crate::address::{Address as _, V4};
use crate::cursor::Cursor;
use crate::ipv6::{self, Chain, ChainStep, Position};
use crate::layout::Wire;
use crate::transport::{self, Protocol};
use crate::verdict::{Candidate, Fault, HeaderAt, Stop};

/// RFC 791, section 3.1.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
struct Header {
    version_ihl: u8,
    _dscp_ecn: u8,
    total_length_be: [u8; 2],
    _identification_be: [u8; 2],
    flags_fragment_offset_be: [u8; 2],
    _time_to_live: u8,
    protocol: u8,
    _checksum_be: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

// SAFETY: `repr(C)`, bytes and byte arrays only, without padding.
unsafe impl Wire for Header {}

const HEADER_LEN: usize = 20;
/// The first byte of a header without options.
const WITHOUT_OPTIONS: u8 = 4 << 4 | (HEADER_LEN / 4) as u8;
const _: () = assert!(size_of::<Header>() == HEADER_LEN);

/// The mask of the 13 low bits of `flags_fragment_offset_be`, for its two bytes read as a native integer.
const FRAGMENT_OFFSET: u16 = u16::from_ne_bytes([0x1f, 0xff]);
/// The same, for the flag that more fragments follow.
pub(crate) const MORE_FRAGMENTS: u16 = u16::from_ne_bytes([0x20, 0]);

/// Parses the packet at `cursor`; `None` if it is no segment or datagram for the guarded port.
#[inline(always)]
pub(crate) fn parse<C: Cursor, S: ChainStep>(
    mut cursor: C,
    step: &S,
) -> Result<Option<Candidate<V4, C>>, Stop> {
    let header: Header = cursor.read().ok_or(Fault::Truncated)?;
    if !S::FOLLOWS && header.version_ihl != WITHOUT_OPTIONS {
        return Err(Stop::Uncommon);
    }
    let ihl = usize::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || ihl < HEADER_LEN {
        return Err(Fault::Malformed.into());
    }
    if ihl > HEADER_LEN {
        cursor.skip(ihl - HEADER_LEN).ok_or(Fault::Truncated)?;
    }
    let fragment = u16::from_ne_bytes(header.flags_fragment_offset_be);
    if fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
        if fragment & FRAGMENT_OFFSET != 0 {
            // A later fragment has no ports, and its receiver cannot use it without the first one.
            return Ok(None);
        }
        if !S::FOLLOWS {
            return Err(Stop::Uncommon);
        }
    }
    let (protocol, cursor, position) = match Protocol::from_number(header.protocol) {
        Some(protocol) => (protocol, cursor, Position::new(cursor.offset(), header.protocol)),
        None => match ipv6::upper_layer(cursor, header.protocol, Chain::Ipv4, step)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let Some(source_port_be) = transport::source_port_of_candidate(cursor)? else { return Ok(None) };
    Ok(Some(Candidate {
        source: V4::from_wire(header.source),
        destination: V4::from_wire(header.destination),
        source_port_be,
        protocol,
        header: cursor,
        // Zero means that it is not declared: `UNDECLARED`.
        declared_len: u16::from_be_bytes(header.total_length_be).into(),
        // A common frame is no fragment.
        header_at: HeaderAt::of_ipv4(position, if S::FOLLOWS { fragment } else { 0 }),
    }))
}
