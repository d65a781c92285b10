//! ONC RPC, as far as portguard counts: which procedure of rpcbind a packet for the guarded port asks for.
//!
//! The procedure is counted, and decides no verdict on a stranger: rpcbind replies in full even to a call that is cut to its
//! first 24 bytes, and a forger can write any procedure. What listed sources may ask is in [`crate::calls`].

use crate::cursor::Cursor;
use crate::layout::Wire;
use crate::listed;
use crate::transport::Protocol;

/// rpcbind's program number (RFC 1833, section 3).
pub const PROGRAM: u32 = 100_000;

/// `msg_type` of a call, and the one version of RPC itself (RFC 5531, section 9).
pub(crate) const CALL_OF_VERSION_2: [u8; 8] = 2_u64.to_be_bytes();

listed! {
    /// What a packet asks for. Procedures that answer, or harm, in the same way are one.
    #[derive(PartialOrd, Ord, Hash)]
    #[repr(u8)]
    pub enum Procedure {
        /// `NULL`: is anybody there?
        Null = "null",
        /// `GETPORT` of version 2, `GETADDR` and `GETVERSADDR` of later ones: where is a service?
        GetAddress = "getaddr",
        /// `DUMP`: which services are there? The answer is what makes rpcbind a reflector.
        Dump = "dump",
        /// `CALLIT`, `BCAST` and `INDIRECT`: call another service in the caller's name.
        CallIt = "callit",
        /// `GETSTAT` of version 4: the second reflector.
        GetStat = "getstat",
        /// `SET` and `UNSET`: change the register.
        Set = "set",
        /// A call of any other procedure, version or program.
        OtherRpc = "other_rpc",
        /// No RPC call, or not enough of one to say what it asks for.
        NotRpc = "not_rpc",
    }
}

/// Something for each [`Procedure`], at its number.
pub type ByProcedure<T> = [T; Procedure::ALL.len()];

// The kernel program keeps procedures apart by their bits, and the procedures of a version in four bits each.
const _: () = assert!(Procedure::ALL.len().is_power_of_two() && Procedure::ALL.len() <= 16);

impl Procedure {
    /// The procedure of a call (RFC 1833, sections 2.2.1 and 3.2).
    #[inline(always)]
    pub const fn of_call(program: u32, version: u32, procedure: u32) -> Self {
        if program != PROGRAM {
            return Self::OtherRpc;
        }
        match (version, procedure) {
            (2..=4, 0) => Self::Null,
            (2..=4, 1 | 2) => Self::Set,
            (2..=4, 3) | (4, 9) => Self::GetAddress,
            (2..=4, 4) => Self::Dump,
            (2..=4, 5) | (4, 10) => Self::CallIt,
            (4, 12) => Self::GetStat,
            _ => Self::OtherRpc,
        }
    }
}

/// RFC 9293, section 3.1, without options.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
struct TcpHeader {
    _ports: [u8; 4],
    _numbers: [u8; 8],
    /// Upper four bits: the length of the header in units of four bytes.
    data_offset: u8,
    _flags: u8,
    _window_be: [u8; 2],
    _checksum_be: [u8; 2],
    _urgent_be: [u8; 2],
}

// SAFETY: `repr(C)`, bytes and byte arrays only, without padding.
unsafe impl Wire for TcpHeader {}

const _: () = assert!(size_of::<TcpHeader>() == 20);

/// The identifier in front of a message (RFC 5531, section 9).
const XID_LEN: usize = 4;

/// The fixed part of a call after its identifier (RFC 5531, section 9); credentials, verifier and arguments follow. Fields
/// that are compared together are one, so that each comparison takes one load.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub(crate) struct CallHeader {
    pub(crate) message_type_and_rpc_version_be: [u8; 8],
    pub(crate) program_and_version_be: [u8; 8],
    pub(crate) procedure_be: [u8; 4],
}

// SAFETY: `repr(C)`, byte arrays only, without padding.
unsafe impl Wire for CallHeader {}

const _: () = assert!(XID_LEN + size_of::<CallHeader>() == 24);

/// A call in a datagram, from the length of UDP on (RFC 768), up to the end of the fixed part.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(4))]
pub(crate) struct Datagram {
    pub(crate) length_be: [u8; 2],
    _checksum_be: [u8; 2],
    _xid: [u8; XID_LEN],
    pub(crate) call: CallHeader,
}

// SAFETY: `repr(C)`, byte arrays only, without padding.
unsafe impl Wire for Datagram {}

/// The ports of UDP, in front of its length.
pub(crate) const PORTS_LEN: usize = 4;
/// The least length of a datagram with the fixed part of a call.
const LEAST_LENGTH: usize = PORTS_LEN + size_of::<Datagram>();

const _: () = assert!(LEAST_LENGTH == 8 + 24);

/// In front of each record of a stream (RFC 5531, section 11).
const RECORD_MARK_LEN: usize = 4;

/// What a denied packet asks for, and over which protocol: the index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request(u8);

/// How many kinds of [`Request`] there are: a power of two.
pub const REQUESTS: usize = Protocol::ALL.len() * Procedure::ALL.len();

/// A counter for each kind of [`Request`].
pub type Requests = [u64; REQUESTS];

impl Request {
    const TCP: u8 = Procedure::ALL.len() as u8;

    /// All of them, each at its index.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..REQUESTS as u8).map(Self)
    }

    /// The request with this index, of which the lowest four bits count.
    #[inline(always)]
    pub fn from_index(index: u8) -> Self {
        Self(index % REQUESTS as u8)
    }

    /// What the segment or datagram whose header is at `cursor` asks for.
    ///
    /// Over UDP the result is exact for whole datagrams. If a datagram is fragmented within the call header, its first
    /// fragment is [`Procedure::NotRpc`]. Over TCP the result is a best effort from one segment: it assumes that a call
    /// begins where the segment's data begin. Segments without data, such as the first of a connection, are
    /// [`Procedure::NotRpc`], too.
    #[inline(always)]
    pub fn of(cursor: impl Cursor, protocol: Protocol) -> Self {
        match protocol {
            Protocol::Udp => Self(datagram(cursor).unwrap_or(Code::NOT_RPC).0),
            Protocol::Tcp => Self(Self::TCP | segment(cursor).unwrap_or(Code::NOT_RPC).0),
        }
    }

    /// The index of its counter.
    #[inline(always)]
    pub fn index(self) -> usize {
        usize::from(self.0) % REQUESTS
    }

    /// Whether no call was found in the packet.
    #[inline(always)]
    pub fn is_not_rpc(self) -> bool {
        self.0 % Self::TCP == Procedure::NotRpc as u8
    }

    /// Whether a call was found in a segment of TCP.
    #[inline(always)]
    pub fn is_call_over_tcp(self) -> bool {
        self.0 >= Self::TCP && !self.is_not_rpc()
    }

    /// Over which protocol.
    #[inline(always)]
    pub fn protocol(self) -> Protocol {
        if self.0 < Self::TCP { Protocol::Udp } else { Protocol::Tcp }
    }

    /// What is asked for.
    pub fn procedure(self) -> Procedure {
        Procedure::ALL[self.index() % Procedure::ALL.len()]
    }
}

#[inline(always)]
fn datagram(mut cursor: impl Cursor) -> Option<Code> {
    cursor.skip(PORTS_LEN)?;
    let datagram = cursor.read::<Datagram>()?;
    // Bytes after the end of the datagram are padding of the link layer, which the receiver does not get. A length of 0 means the
    // rest of the packet (RFC 2675); Linux takes it with IPv6 only, and drops it with IPv4 (`__udp4_lib_rcv`).
    let length = usize::from(u16::from_be_bytes(datagram.length_be));
    if length != 0 && length < LEAST_LENGTH {
        return None;
    }
    Some(call(&datagram.call))
}

#[inline(always)]
fn segment(mut cursor: impl Cursor) -> Option<Code> {
    let header = cursor.read::<TcpHeader>()?;
    let length = usize::from(header.data_offset >> 4) * 4;
    cursor.skip(length.checked_sub(size_of::<TcpHeader>())?)?;
    cursor.skip(RECORD_MARK_LEN + XID_LEN)?;
    Some(call(&cursor.read()?))
}

/// What a message asks for.
#[inline(always)]
fn call(header: &CallHeader) -> Code {
    if header.message_type_and_rpc_version_be != CALL_OF_VERSION_2 {
        return Code::NOT_RPC;
    }
    let program_and_version = u64::from_be_bytes(header.program_and_version_be);
    let version = program_and_version.wrapping_sub(FIRST_VERSION);
    if version > LAST_VERSION - FIRST_VERSION {
        return Code::OTHER_RPC;
    }
    let is_last = version == LAST_VERSION - FIRST_VERSION;
    let codes = if is_last { Codes::OF_VERSION_4 } else { Codes::OF_VERSION_3 };
    codes.get(u32::from_be_bytes(header.procedure_be))
}

/// A [`Procedure`] as a number that the verifier can prove to be below eight. From a `match` that returns procedures, the
/// compiler makes arithmetic whose bounds the verifier cannot follow.
#[derive(Clone, Copy)]
struct Code(u8);

impl Code {
    const OTHER_RPC: Self = Self(Procedure::OtherRpc as u8);
    const NOT_RPC: Self = Self(Procedure::NotRpc as u8);
}

/// The first version of rpcbind's program, which is called portmapper: the number of the program in the upper half, and
/// that of the version in the lower one.
pub(crate) const FIRST_VERSION: u64 = (PROGRAM as u64) << 32 | 2;
/// The last version.
pub(crate) const LAST_VERSION: u64 = FIRST_VERSION + 2;

/// The procedures of a version, four bits each, by their number.
struct Codes(u64);

impl Codes {
    const OF_VERSION_3: Self = Self::of(3);
    const OF_VERSION_4: Self = Self::of(4);
    /// The greatest number of a procedure.
    const LAST: u8 = Procedure::ALL.len() as u8 - 1;

    const fn of(version: u32) -> Self {
        let (mut codes, mut number) = (0, 0);
        while number < 16 {
            codes |= (Procedure::of_call(PROGRAM, version, number) as u64) << (4 * number);
            number += 1;
        }
        Self(codes)
    }

    #[inline(always)]
    fn get(&self, number: u32) -> Code {
        if number < 16 { Code((self.0 >> (4 * number)) as u8 & Self::LAST) } else { Code::OTHER_RPC }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Linear;

    /// A `DUMP` of version 3 without credentials, 40 bytes.
    const DUMP: [u8; 40] = [
        0x65, 0x0b, 0x1f, 0x2d, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0x86, 0xa0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn datagram(payload: &[u8], length: u16) -> ([u8; 64], usize) {
        let mut bytes = [0; 64];
        bytes[2..4].copy_from_slice(&111_u16.to_be_bytes());
        bytes[4..6].copy_from_slice(&length.to_be_bytes());
        bytes[8..8 + payload.len()].copy_from_slice(payload);
        (bytes, 8 + payload.len())
    }

    fn of_datagram(payload: &[u8], length: u16) -> Procedure {
        let (bytes, end) = datagram(payload, length);
        let request = Request::of(Linear::new(&bytes[..end]), Protocol::Udp);
        assert_eq!(request.protocol(), Protocol::Udp);
        request.procedure()
    }

    #[test]
    fn each_is_at_its_index() {
        for (index, request) in Request::all().enumerate() {
            assert_eq!((request.index(), Request::from_index(index as u8)), (index, request));
        }
    }

    #[test]
    fn a_call_is_known_by_its_first_24_bytes_and_no_less() {
        for length in 0..=DUMP.len() {
            let expected = if length < 24 { Procedure::NotRpc } else { Procedure::Dump };
            assert_eq!(of_datagram(&DUMP[..length], 8 + length as u16), expected, "{length} bytes");
        }
    }

    #[test]
    fn padding_behind_a_datagram_is_not_read() {
        assert_eq!(of_datagram(&DUMP, 8 + 23), Procedure::NotRpc);
        assert_eq!(of_datagram(&DUMP, 8 + 24), Procedure::Dump);
    }

    #[test]
    fn replies_and_other_versions_of_rpc_are_no_calls() {
        for (at, value) in [(7, 1), (11, 3)] {
            let mut message = DUMP;
            message[at] = value;
            assert_eq!(of_datagram(&message, 48), Procedure::NotRpc);
        }
    }

    #[test]
    fn procedures_are_those_of_their_version() {
        use Procedure::{CallIt, Dump, GetAddress, GetStat, Null, OtherRpc, Set};
        let versions = [
            (2, [Null, Set, Set, GetAddress, Dump, CallIt, OtherRpc, OtherRpc, OtherRpc, OtherRpc, OtherRpc]),
            (3, [Null, Set, Set, GetAddress, Dump, CallIt, OtherRpc, OtherRpc, OtherRpc, OtherRpc, OtherRpc]),
            (4, [Null, Set, Set, GetAddress, Dump, CallIt, OtherRpc, OtherRpc, OtherRpc, GetAddress, CallIt]),
        ];
        for (version, expected) in versions {
            for (number, expected) in (0..).zip(expected) {
                assert_eq!(Procedure::of_call(PROGRAM, version, number), expected, "{version} {number}");
            }
        }
        assert_eq!(Procedure::of_call(PROGRAM, 4, 12), GetStat);
        assert_eq!(Procedure::of_call(PROGRAM, 4, 13), OtherRpc);
        for (program, version) in [(PROGRAM, 1), (PROGRAM, 5), (100_003, 3)] {
            assert_eq!(Procedure::of_call(program, version, 4), OtherRpc);
        }
    }

    #[test]
    fn each_call_is_counted_as_what_it_is() {
        for program in [PROGRAM, PROGRAM + 1] {
            for (version, number) in (0..8).flat_map(|version| (0..40).map(move |number| (version, number))) {
                let mut message = DUMP;
                message[12..24]
                    .as_chunks_mut()
                    .0
                    .copy_from_slice(&[program, version, number].map(u32::to_be_bytes));
                let expected = Procedure::of_call(program, version, number);
                assert_eq!(of_datagram(&message, 48), expected, "{program} {version} {number}");
            }
        }
    }

    #[test]
    fn a_segment_may_have_options_and_may_carry_nothing() {
        for options in [0, 12, 40] {
            let mut bytes = [0; 20 + 40 + 4 + 40];
            let data = 20 + options;
            bytes[12] = (data as u8 / 4) << 4;
            bytes[data + 4..data + 44].copy_from_slice(&DUMP);
            let of = |length: usize| {
                let request = Request::of(Linear::new(&bytes[..length]), Protocol::Tcp);
                assert_eq!(request.protocol(), Protocol::Tcp);
                request.procedure()
            };
            assert_eq!(of(data + 44), Procedure::Dump);
            assert_eq!(of(data + 27), Procedure::NotRpc, "a segment without a whole header");
            assert_eq!(of(data), Procedure::NotRpc);
        }
        let of_no_length = Request::of(Linear::new(&[0; 100]), Protocol::Tcp);
        assert_eq!(of_no_length.procedure(), Procedure::NotRpc, "a header of no length");
    }
}
