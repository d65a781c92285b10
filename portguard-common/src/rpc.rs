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
        /// `GETPORT` of version 2, `GETADDR` of later ones: where is a service?
        GetAddress = "getaddr",
        /// `DUMP`: which services are there? The answer is what makes rpcbind a reflector.
        Dump = "dump",
        /// `CALLIT`, `BCAST` and `INDIRECT`: call another service in the caller's name.
        CallIt = "callit",
        /// `GETSTAT` of version 4: the second reflector.
        GetStat = "getstat",
        /// `SET` and `UNSET`: change the register.
        Set = "set",
        /// A call of rpcbind for any other procedure or version.
        OtherRpc = "other_rpc",
        /// No RPC call, or not enough of one to say what it asks for.
        NotRpc = "not_rpc",
        /// `GETADDRLIST` of version 4: all addresses of a service.
        GetAddressList = "getaddrlist",
        /// `GETTIME` of version 3: which time is it?
        GetTime = "gettime",
        /// `UADDR2TADDR` of version 3: a universal address as one of the transport.
        ToTransport = "uaddr2taddr",
        /// `TADDR2UADDR` of version 3: the reverse.
        ToUniversal = "taddr2uaddr",
        /// `GETVERSADDR` of version 4: where is this version of a service?
        GetVersionAddress = "getversaddr",
        /// A call of any other program, which rpcbind does not serve.
        OtherProgram = "other_program",
    }
}

/// Something for each [`Procedure`], at its number.
pub type ByProcedure<T> = [T; Procedure::ALL.len()];

// The index of a request has four bits for the procedure.
const _: () = assert!(Procedure::ALL.len() <= 16);

impl Procedure {
    /// The procedure of a call (RFC 1833, sections 2.2.1 and 3.2).
    #[inline(always)]
    pub const fn of_call(program: u32, version: u32, procedure: u32) -> Self {
        if program != PROGRAM {
            return Self::OtherProgram;
        }
        match (version, procedure) {
            (2..=4, 0) => Self::Null,
            (2..=4, 1 | 2) => Self::Set,
            (2..=4, 3) => Self::GetAddress,
            (2..=4, 4) => Self::Dump,
            (2..=4, 5) | (4, 10) => Self::CallIt,
            (3 | 4, 6) => Self::GetTime,
            (3 | 4, 7) => Self::ToTransport,
            (3 | 4, 8) => Self::ToUniversal,
            (4, 9) => Self::GetVersionAddress,
            (4, 11) => Self::GetAddressList,
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
///
/// Bits 0 to 2 are those of the procedure's number, bit 3 is 1 over TCP, and bit 4 is bit 3 of the procedure's number. Guards of ABI 4 to 8
/// know the first eight procedures only, and have counted at the same indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request(u8);

/// How many indexes of a [`Request`] there are: a power of two.
pub const REQUESTS: usize = 32;

/// A counter for each index of a [`Request`].
pub type Requests = [u64; REQUESTS];

impl Request {
    /// 1 over TCP.
    const TCP: u8 = 1 << 3;

    /// A request for this, over this protocol.
    pub const fn new(protocol: Protocol, procedure: Procedure) -> Self {
        let Code(code) = Code::of(procedure);
        match protocol {
            Protocol::Udp => Self(code),
            Protocol::Tcp => Self(code | Self::TCP),
        }
    }

    /// All of them, in the order of their indexes. Some indexes are free.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..REQUESTS as u8).map(Self).filter(|request| request.number() < Procedure::ALL.len())
    }

    /// The request with this index, of which the lowest five bits count.
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
        self.0 & !Self::TCP == Procedure::NotRpc as u8
    }

    /// Whether a call was found in a segment of TCP.
    #[inline(always)]
    pub fn is_call_over_tcp(self) -> bool {
        self.0 & Self::TCP != 0 && !self.is_not_rpc()
    }

    /// Over which protocol.
    #[inline(always)]
    pub fn protocol(self) -> Protocol {
        if self.0 & Self::TCP == 0 { Protocol::Udp } else { Protocol::Tcp }
    }

    /// What is asked for. No packet has an index that is free.
    pub fn procedure(self) -> Procedure {
        Procedure::ALL.get(self.number()).copied().unwrap_or(Procedure::OtherRpc)
    }

    /// The number of the procedure.
    fn number(self) -> usize {
        usize::from(self.0 & 7 | (self.0 & Code::HIGHEST) >> 1)
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
        let is_rpcbind = program_and_version >> 32 == u64::from(PROGRAM);
        return if is_rpcbind { Code::OTHER_RPC } else { Code::OTHER_PROGRAM };
    }
    let number = u32::from_be_bytes(header.procedure_be);
    // What floods ask for: no branch on the version is in its way.
    if number < OF_ALL_VERSIONS {
        return Codes::OF_ALL_VERSIONS.get(number);
    }
    let numbers = NUMBERS >> (8 * version) & 0xff;
    if number < numbers as u32 { Codes::OF_LAST_VERSION.get(number) } else { Code::OTHER_RPC }
}

/// The index of a [`Request`] over UDP, as a number that the verifier can prove to be below 32. From a `match` that returns procedures,
/// the compiler makes arithmetic whose bounds the verifier cannot follow.
#[derive(Clone, Copy)]
struct Code(u8);

impl Code {
    const OTHER_RPC: Self = Self::of(Procedure::OtherRpc);
    const NOT_RPC: Self = Self::of(Procedure::NotRpc);
    const OTHER_PROGRAM: Self = Self::of(Procedure::OtherProgram);

    /// The bit of the procedures from the ninth on.
    const HIGHEST: u8 = 1 << 4;

    const fn of(procedure: Procedure) -> Self {
        let number = procedure as u8;
        Self(number & 7 | (number & 8) << 1)
    }
}

/// The first version of rpcbind's program, which is called portmapper: the number of the program in the upper half, and
/// that of the version in the lower one.
pub(crate) const FIRST_VERSION: u64 = (PROGRAM as u64) << 32 | 2;
/// The last version.
pub(crate) const LAST_VERSION: u64 = FIRST_VERSION + 2;

/// How many procedures all versions have: with the same numbers (RFC 1833, section 3.2).
const OF_ALL_VERSIONS: u32 = 6;
/// How many procedures each version has, in a byte each from the first version on: those of the version before, and more.
const NUMBERS: u64 = 6 | 9 << 8 | 13 << 16;

/// The [`Code`]s of procedures, five bits each, by their number. In one word, so that the look-up takes no access to memory.
struct Codes(u64);

impl Codes {
    const OF_ALL_VERSIONS: Self = Self::first(OF_ALL_VERSIONS);
    const OF_LAST_VERSION: Self = Self::first(13);
    const BITS: u32 = 5;

    const fn first(numbers: u32) -> Self {
        let (mut codes, mut number) = (0_u128, 0);
        while number < numbers {
            let Code(code) = Code::of(Procedure::of_call(PROGRAM, 4, number));
            codes |= (code as u128) << (Self::BITS * number);
            number += 1;
        }
        // Thirteen have 65 bits. The highest one is not set.
        assert!(codes <= u64::MAX as u128);
        Self(codes as u64)
    }

    /// The code of a procedure, which is among these.
    #[inline(always)]
    fn get(&self, number: u32) -> Code {
        Code((self.0 >> (Self::BITS * number)) as u8 & (REQUESTS - 1) as u8)
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
        let mut seen = [false; REQUESTS];
        for (protocol, procedure) in
            Protocol::ALL.into_iter().flat_map(|protocol| Procedure::ALL.map(|it| (protocol, it)))
        {
            let request = Request::new(protocol, procedure);
            assert_eq!(Request::from_index(request.index() as u8), request);
            assert_eq!((request.protocol(), request.procedure()), (protocol, procedure));
            assert_eq!(request.is_not_rpc(), procedure == Procedure::NotRpc);
            let is_call = protocol == Protocol::Tcp && procedure != Procedure::NotRpc;
            assert_eq!(request.is_call_over_tcp(), is_call);
            assert!(!core::mem::replace(&mut seen[request.index()], true), "{request:?}");
        }
        assert_eq!(Request::all().count(), Protocol::ALL.len() * Procedure::ALL.len());
        assert!(Request::all().all(|request| seen[request.index()]));
    }

    /// Guards of ABI 4 to 8 have counted at these indexes.
    #[test]
    fn the_first_eight_procedures_keep_their_indexes() {
        let keys = ["null", "getaddr", "dump", "callit", "getstat", "set", "other_rpc", "not_rpc"];
        for (index, key) in keys.into_iter().enumerate() {
            let procedure = Procedure::from_key(key).expect("no key is renamed");
            assert_eq!(Request::new(Protocol::Udp, procedure).index(), index);
            assert_eq!(Request::new(Protocol::Tcp, procedure).index(), 8 + index);
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
        use Procedure::{
            CallIt, Dump, GetAddress, GetAddressList, GetStat, GetTime, GetVersionAddress, Null,
            OtherProgram, OtherRpc, Set, ToTransport, ToUniversal,
        };
        let all = [Null, Set, Set, GetAddress, Dump, CallIt];
        let since_3 = [GetTime, ToTransport, ToUniversal];
        let since_4 = [GetVersionAddress, CallIt, GetAddressList, GetStat];
        let versions = [(2, &[][..], &[][..]), (3, &since_3, &[]), (4, &since_3, &since_4)];
        for (version, since_3, since_4) in versions {
            let expected = all.iter().chain(since_3).chain(since_4).chain(&[OtherRpc; 3]);
            for (number, &expected) in (0..).zip(expected) {
                assert_eq!(Procedure::of_call(PROGRAM, version, number), expected, "{version} {number}");
            }
        }
        for version in [0, 1, 5, u32::MAX] {
            assert_eq!(Procedure::of_call(PROGRAM, version, 4), OtherRpc);
        }
        for program in [PROGRAM - 1, PROGRAM + 1, 100_003, 0] {
            assert_eq!(Procedure::of_call(program, 3, 4), OtherProgram);
        }
    }

    #[test]
    fn each_call_is_counted_as_what_it_is() {
        for program in [PROGRAM - 1, PROGRAM, PROGRAM + 1] {
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
