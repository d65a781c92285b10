//! IPv6 (RFC 8200), as far as it decides which port a packet is for, and the walk along extension headers. IPv4 has one
//! of these headers, too: the authentication header.
//!
//! The walk consists of steps over some headers each. A step is a pure function of the frame and a [`Position`] that fits
//! into 64 bits. The kernel program calls it as a BPF global function: the verifier checks that function once, and not once for
//! each step. The host calls it directly.
//!
//! The payload length does not influence the verdict, for the reasons in [`crate::ipv4`].

use crate::address::V6;
use crate::cursor::Cursor;
use crate::layout::Wire;
use crate::transport::{self, Protocol};
use crate::verdict::{Candidate, Fault, HeaderAt, Stop, UNDECLARED};

/// The most extension headers in front of TCP or UDP. RFC 8200 has seven kinds, and recommends that each occurs once
/// (destination options twice). Linux has no limit.
pub const MAX_EXTENSION_HEADERS: usize = 16;

/// The most extension headers of one step.
const HEADERS_OF_STEP: usize = 4;
const STEPS: usize = MAX_EXTENSION_HEADERS / HEADERS_OF_STEP;
const _: () = assert!(STEPS * HEADERS_OF_STEP == MAX_EXTENSION_HEADERS);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
/// RFC 4302.
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// RFC 6275.
const MOBILITY: u8 = 135;

/// RFC 8200, section 3.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Header {
    version_class: u8,
    _class_flow_be: [u8; 3],
    payload_length_be: [u8; 2],
    next_header: u8,
    _hop_limit: u8,
    /// In halves, so that each is one load.
    source: [[u8; 8]; 2],
    destination: [[u8; 8]; 2],
}

// SAFETY: `repr(C)`, bytes and byte arrays only, without padding.
unsafe impl Wire for Header {}

const _: () = assert!(size_of::<Header>() == 40);

/// The first eight bytes of an extension header. All have at least eight (RFC 6564; RFC 4302 for authentication, which
/// has twelve).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct ExtensionHeader {
    next_header: u8,
    /// Its unit and its base depend on the kind of header. Reserved in a fragment header.
    length: u8,
    /// In a fragment header: the offset in units of eight bytes (13 bits), two reserved bits, and the M flag.
    fragment_offset_be: [u8; 2],
    _rest: [u8; 4],
}

// SAFETY: `repr(C)`, bytes and byte arrays only, without padding.
unsafe impl Wire for ExtensionHeader {}

const EXTENSION_HEADER_LEN: usize = size_of::<ExtensionHeader>();

/// Which headers are extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// The authentication header only.
    Ipv4,
    /// All of them.
    Ipv6,
}

impl Chain {
    #[inline(always)]
    fn has(self, header: u8) -> bool {
        match header {
            AUTHENTICATION => true,
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY => self == Self::Ipv6,
            _ => false,
        }
    }
}

/// The state of the walk along the extension headers, packed into 64 bits. Bits 0 to 31 are the offset from the start of
/// the frame, and bits 32 to 39 the number of the header at that offset. Bit 40 alone (`ENDED`) means that the packet has
/// no ports. Bit 41 alone (`CUT_SHORT`) means that the frame ends before the header does. Bit 42 (`FRAGMENT`) means that the packet is
/// the first fragment of several, bit 43 (`IPV4`) that the chain is that of IPv4, and bit 44 (`GOES_ON`) that the header at
/// the offset is an extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

impl Position {
    const ENDED: Self = Self(1 << 40);
    const CUT_SHORT: Self = Self(1 << 41);
    pub(crate) const FRAGMENT: u64 = 1 << 42;
    const IPV4: u64 = 1 << 43;
    const GOES_ON: u64 = 1 << 44;

    /// At the first extension header of a packet.
    #[inline(always)]
    fn first(offset: usize, header: u8, chain: Chain) -> Self {
        let chain = if chain == Chain::Ipv4 { Self::IPV4 } else { 0 };
        Self(Self::new(offset, header).0 | chain)
    }

    #[inline(always)]
    pub(crate) fn new(offset: usize, header: u8) -> Self {
        Self(offset as u64 & 0xffff_ffff | u64::from(header) << 32)
    }

    #[inline(always)]
    pub(crate) fn offset(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    #[inline(always)]
    fn header(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline(always)]
    fn chain(self) -> Chain {
        if self.0 & Self::IPV4 == 0 { Chain::Ipv6 } else { Chain::Ipv4 }
    }

    /// Whether the walk ended before it was at a header behind the extension headers.
    #[inline(always)]
    fn is_nowhere(self) -> bool {
        self == Self::ENDED || self == Self::CUT_SHORT
    }

    #[inline(always)]
    fn goes_on(self) -> bool {
        self.0 & Self::GOES_ON != 0
    }
}

/// One step of the walk: [`walk_on`], applied to one frame.
pub trait ChainStep {
    /// Whether the parser follows chains of headers of any length. If not, it takes common frames only, and leaves the
    /// others: [`crate::verdict::Verdict::Uncommon`].
    const FOLLOWS: bool = true;

    /// The position after the extension header at `position` and some that follow it.
    fn step(&self, position: Position) -> Position;
}

/// Takes common frames only.
#[derive(Clone, Copy, Debug)]
pub struct CommonFrames;

impl ChainStep for CommonFrames {
    const FOLLOWS: bool = false;

    #[inline(always)]
    fn step(&self, _position: Position) -> Position {
        Position::CUT_SHORT
    }
}

/// The step as a direct call, for the host.
#[derive(Clone, Copy, Debug)]
pub struct DirectStep<C>(
    /// A cursor over the frame.
    pub C,
);

impl<C: Cursor> ChainStep for DirectStep<C> {
    fn step(&self, position: Position) -> Position {
        walk_on(self.0, position)
    }
}

/// The position after the extension header at `position` and those that follow it, but no more than a step has. `frame` is a
/// cursor anywhere in the frame.
#[inline(always)]
pub fn walk_on(frame: impl Cursor, mut position: Position) -> Position {
    for _ in 0..HEADERS_OF_STEP {
        position = step_over(frame, position);
        if position.is_nowhere() || Protocol::from_number(position.header()).is_some() {
            return position;
        }
        if !position.chain().has(position.header()) {
            return Position::ENDED;
        }
    }
    Position(position.0 | Position::GOES_ON)
}

/// The position after the extension header at `position`.
#[inline(always)]
fn step_over(frame: impl Cursor, position: Position) -> Position {
    let Some(mut cursor) = frame.at(position.offset()) else { return Position::CUT_SHORT };
    let Some(header) = cursor.read::<ExtensionHeader>() else { return Position::CUT_SHORT };
    let mut flags = position.0 & (Position::FRAGMENT | Position::IPV4);
    let length = match position.header() {
        FRAGMENT => {
            let [high, low] = header.fragment_offset_be;
            if high != 0 || low & 0xf8 != 0 {
                // A later fragment has no ports, and its receiver cannot use it without the first one.
                return Position::ENDED;
            }
            if low & 1 != 0 {
                flags |= Position::FRAGMENT;
            }
            EXTENSION_HEADER_LEN
        }
        // In units of four bytes, not counting the first two (RFC 4302, section 2.2).
        AUTHENTICATION => (usize::from(header.length) + 2) * 4,
        // In units of eight bytes, not counting the first (RFC 8200, section 4).
        _ => (usize::from(header.length) + 1) * 8,
    };
    Position(Position::new(position.offset() + length, header.next_header).0 | flags)
}

/// Walks along the extension headers that begin at `cursor`, the first of which has the number `header`. Returns the
/// protocol after them, a cursor at its header, and the position there; `None` if it is neither TCP nor UDP, or if the packet is a
/// later fragment.
#[inline(always)]
pub(crate) fn upper_layer<C: Cursor, S: ChainStep>(
    cursor: C,
    header: u8,
    chain: Chain,
    step: &S,
) -> Result<Option<(Protocol, C, Position)>, Stop> {
    if !chain.has(header) {
        return Ok(None);
    }
    if !S::FOLLOWS {
        return Err(Stop::Uncommon);
    }
    let mut position = Position::first(cursor.offset(), header, chain);
    for _ in 0..STEPS {
        position = step.step(position);
        if !position.goes_on() {
            break;
        }
    }
    if position == Position::CUT_SHORT {
        return Err(Fault::Truncated.into());
    }
    if position.goes_on() {
        return Err(Fault::TooManyHeaders.into());
    }
    let Some(protocol) = Protocol::from_number(position.header()) else { return Ok(None) };
    let cursor = cursor.at(position.offset()).ok_or(Fault::Truncated)?;
    Ok(Some((protocol, cursor, position)))
}

/// Parses the packet at `cursor`; `None` if it is no segment or datagram for the guarded port.
#[inline(always)]
pub(crate) fn parse<C: Cursor>(
    mut cursor: C,
    step: &impl ChainStep,
) -> Result<Option<Candidate<V6, C>>, Stop> {
    let header: Header = cursor.read().ok_or(Fault::Truncated)?;
    if header.version_class >> 4 != 6 {
        return Err(Fault::Malformed.into());
    }
    let (protocol, cursor, position) = match Protocol::from_number(header.next_header) {
        Some(protocol) => (protocol, cursor, Position::new(cursor.offset(), header.next_header)),
        None => match upper_layer(cursor, header.next_header, Chain::Ipv6, step)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let Some(source_port_be) = transport::source_port_of_candidate(cursor)? else { return Ok(None) };
    Ok(Some(Candidate {
        source: header.source.map(u64::from_ne_bytes),
        destination: header.destination.map(u64::from_ne_bytes),
        source_port_be,
        protocol,
        header: cursor,
        declared_len: declared_len(header.payload_length_be),
        header_at: HeaderAt::of_ipv6(position),
    }))
}

#[inline(always)]
fn declared_len(payload_length_be: [u8; 2]) -> usize {
    match u16::from_be_bytes(payload_length_be) {
        0 => UNDECLARED,
        length => size_of::<Header>() + usize::from(length),
    }
}
