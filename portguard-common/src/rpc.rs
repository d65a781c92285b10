//! ONC RPC, as far as portguard counts: which procedure of rpcbind a packet for the guarded port asks for.
//!
//! Counted, and never asked for a verdict: a call that is cut to its first 24 bytes is still answered in full, and a
//! forger may write what he likes.

use crate::cursor::Cursor;
use crate::layout::Wire;
use crate::transport::Protocol;

/// rpcbind's program number (RFC 1833, section 3).
pub const PROGRAM: u32 = 100_000;

/// `msg_type` of a call (RFC 5531, section 9).
const CALL: u32 = 0;
/// The one version of RPC itself.
const RPC_VERSION: u32 = 2;

/// What a packet asks for. Procedures that answer, or harm, in the same way are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Procedure {
    /// `NULL`: is anybody there?
    Null = 0,
    /// `GETPORT` of version 2, `GETADDR` and `GETVERSADDR` of later ones: where is a service?
    GetAddress = 1,
    /// `DUMP`: which services are there? The answer is what makes rpcbind a reflector.
    Dump = 2,
    /// `CALLIT`, `BCAST` and `INDIRECT`: call another service in the caller's name.
    CallIt = 3,
    /// `GETSTAT` of version 4: the second reflector.
    GetStat = 4,
    /// `SET` and `UNSET`: change the register.
    Set = 5,
    /// A call of any other procedure, version or program.
    OtherRpc = 6,
    /// No RPC call, or not enough of one to say what it asks for.
    NotRpc = 7,
}

impl Procedure {
    /// All of them, each at the index that it is as an integer.
    pub const ALL: [Self; 8] = [
        Self::Null,
        Self::GetAddress,
        Self::Dump,
        Self::CallIt,
        Self::GetStat,
        Self::Set,
        Self::OtherRpc,
        Self::NotRpc,
    ];

    /// The procedure of a call (RFC 1833, sections 2.2.1 and 3.2).
    #[inline(always)]
    pub fn of_call(program: u32, version: u32, procedure: u32) -> Self {
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

/// RFC 768.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct UdpHeader {
    _ports: [u8; 4],
    length_be: [u8; 2],
    _checksum_be: [u8; 2],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for UdpHeader {}

/// RFC 9293, section 3.1, without options.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
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

// SAFETY: `repr(C)`, bytes and byte arrays only.
unsafe impl Wire for TcpHeader {}

/// The fixed part of a call (RFC 5531, section 9); credentials, verifier and arguments follow.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct CallHeader {
    _xid: [u8; 4],
    message_type_be: [u8; 4],
    rpc_version_be: [u8; 4],
    program_be: [u8; 4],
    version_be: [u8; 4],
    procedure_be: [u8; 4],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for CallHeader {}

/// In front of each record of a stream (RFC 5531, section 11).
const RECORD_MARK_LEN: usize = 4;

/// What the segment or datagram whose header is at `cursor` asks for.
///
/// Over UDP that is exact for whole datagrams; the first fragment of one that is torn within the call is
/// [`Procedure::NotRpc`]. Over TCP it is the best that can be said of one segment: `None` if it is too short for a call,
/// as one without data is, and otherwise what a call would be that begins where the segment's data do.
#[inline(always)]
pub fn procedure(mut cursor: impl Cursor, protocol: Protocol) -> Option<Procedure> {
    match protocol {
        Protocol::Udp => {
            let Some(header) = cursor.read::<UdpHeader>() else { return Some(Procedure::NotRpc) };
            // What lies behind the datagram is padding of the link, which the receiver does not get to see.
            let length = usize::from(u16::from_be_bytes(header.length_be));
            if length < size_of::<UdpHeader>() + size_of::<CallHeader>() {
                return Some(Procedure::NotRpc);
            }
            Some(call(cursor).unwrap_or(Procedure::NotRpc))
        }
        Protocol::Tcp => {
            let header = cursor.read::<TcpHeader>()?;
            let length = usize::from(header.data_offset >> 4) * 4;
            cursor.skip(length.checked_sub(size_of::<TcpHeader>())?)?;
            cursor.skip(RECORD_MARK_LEN)?;
            call(cursor)
        }
    }
}

/// The procedure of the message at `cursor`; `None` if the frame ends within its header.
#[inline(always)]
fn call(mut cursor: impl Cursor) -> Option<Procedure> {
    let header = cursor.read::<CallHeader>()?;
    let is_call = header.message_type_be == CALL.to_be_bytes();
    if !is_call || header.rpc_version_be != RPC_VERSION.to_be_bytes() {
        return Some(Procedure::NotRpc);
    }
    let number = u32::from_be_bytes;
    Some(Procedure::of_call(
        number(header.program_be),
        number(header.version_be),
        number(header.procedure_be),
    ))
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

    fn of_datagram(payload: &[u8], length: u16) -> Option<Procedure> {
        let (bytes, end) = datagram(payload, length);
        procedure(Linear::new(&bytes[..end]), Protocol::Udp)
    }

    #[test]
    fn each_is_at_its_index() {
        for (index, procedure) in Procedure::ALL.into_iter().enumerate() {
            assert_eq!(procedure as usize, index);
        }
    }

    #[test]
    fn a_call_is_known_by_its_first_24_bytes_and_no_less() {
        for length in 0..=DUMP.len() {
            let expected = if length < 24 { Procedure::NotRpc } else { Procedure::Dump };
            assert_eq!(of_datagram(&DUMP[..length], 8 + length as u16), Some(expected), "{length} bytes");
        }
    }

    #[test]
    fn padding_behind_a_datagram_is_not_read() {
        assert_eq!(of_datagram(&DUMP, 8 + 23), Some(Procedure::NotRpc));
        assert_eq!(of_datagram(&DUMP, 8 + 24), Some(Procedure::Dump));
    }

    #[test]
    fn replies_and_other_versions_of_rpc_are_no_calls() {
        for (at, value) in [(7, 1), (11, 3)] {
            let mut message = DUMP;
            message[at] = value;
            assert_eq!(of_datagram(&message, 48), Some(Procedure::NotRpc));
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
    fn a_segment_may_have_options_and_may_carry_nothing() {
        for options in [0, 12, 40] {
            let mut bytes = [0; 20 + 40 + 4 + 40];
            let data = 20 + options;
            bytes[12] = (data as u8 / 4) << 4;
            bytes[data + 4..data + 44].copy_from_slice(&DUMP);
            let of = |length: usize| procedure(Linear::new(&bytes[..length]), Protocol::Tcp);
            assert_eq!(of(data + 44), Some(Procedure::Dump));
            assert_eq!(of(data + 27), None, "a segment without a whole header");
            assert_eq!(of(data), None);
        }
        assert_eq!(procedure(Linear::new(&[0; 100]), Protocol::Tcp), None, "a header of no length");
    }
}
