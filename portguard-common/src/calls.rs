//! Which calls a listed source may make over UDP.
//!
//! Whoever forges the source of a call sends the reply to somebody else. A *lookup* is a call whose reply is hardly larger
//! than itself: at most 1.1 times. A list can let only lookups through, or no UDP at all; its own clients are then of no use
//! to an attacker who forges their addresses. TCP is not affected: its source cannot be forged.

use crate::cursor::Cursor;
use crate::listed;
use crate::rpc::{CALL_OF_VERSION_2, Datagram, FIRST_VERSION, LAST_VERSION, PORTS_LEN, PROGRAM, Procedure};

listed! {
    /// The calls that listed sources may make over UDP.
    #[derive(Default, PartialOrd, Ord)]
    #[repr(u32)]
    pub enum UdpCalls {
        /// All.
        #[default]
        All = "all",
        /// Those whose reply is hardly larger than the call: see [`is_lookup`].
        Lookups = "lookups",
        /// None.
        None = "none",
    }
}

impl UdpCalls {
    /// Whether a whole call of this kind is permitted.
    pub fn permits(self, procedure: Procedure) -> bool {
        match self {
            Self::All => true,
            Self::Lookups => matches!(
                procedure,
                Procedure::Null
                    | Procedure::GetAddress
                    | Procedure::GetTime
                    | Procedure::ToTransport
                    | Procedure::ToUniversal
                    | Procedure::GetVersionAddress
            ),
            Self::None => false,
        }
    }

    /// The one with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// The one with this number, as the program takes it. Fails closed: what is unknown permits nothing.
    #[inline(always)]
    pub const fn in_program(number: u32) -> Self {
        const ALL: u32 = UdpCalls::All as u32;
        const LOOKUPS: u32 = UdpCalls::Lookups as u32;
        match number {
            ALL => Self::All,
            LOOKUPS => Self::Lookups,
            _ => Self::None,
        }
    }
}

/// The longest datagram of a lookup, with its UDP header. A client's credentials (AUTH_SYS) take up to 160 bytes, and the
/// arguments up to 212.
pub const LONGEST_LOOKUP: usize = 520;

/// The most bytes of credentials, and of a verifier (RFC 5531, section 8.2).
const LONGEST_AUTH: u32 = 400;
/// The most bytes of a string or an address in the arguments: a universal address of IPv6 has 47.
const LONGEST_STRING: u32 = 64;

/// In two words: the version of RPC and the number of rpcbind's program, which each call to rpcbind has.
const CALL_TO_RPCBIND: u64 = 2 << 32 | PROGRAM as u64;

/// What follows the verifier of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// Nothing.
    None,
    /// `struct mapping`: four words (RFC 1833, section 3.1).
    Mapping,
    /// `struct rpcb`: two words and three strings (RFC 1833, section 2.1).
    Service,
    /// One string.
    Text,
    /// `struct netbuf`: a word, and bytes as in a string.
    Address,
}

impl Arguments {
    /// Those of a lookup; `version` counts from 2. `None` for all other procedures.
    #[inline(always)]
    fn of(version: u64, procedure: u32) -> Option<Self> {
        match (version, procedure) {
            (_, 0) => Some(Self::None),
            (0, 3) => Some(Self::Mapping),
            (0, _) => None,
            (_, 3) => Some(Self::Service),
            (_, 6) => Some(Self::None),
            (_, 7) => Some(Self::Text),
            (_, 8) => Some(Self::Address),
            (2, 9) => Some(Self::Service),
            _ => None,
        }
    }
}

/// Whether the UDP datagram whose header is at `cursor` is one whole lookup: a call of program 100000 for `NULL`, `GETPORT`, `GETADDR`,
/// `GETVERSADDR`, `GETTIME`, `UADDR2TADDR` or `TADDR2UADDR`, which ends exactly where the datagram ends.
///
/// The kernel can hand several datagrams over as one (UDP_SEGMENT, GRO), and separates them later. They end elsewhere; and a
/// datagram in which the beginning of another call to rpcbind is found is no lookup, wherever it is.
#[inline(always)]
pub fn is_lookup<C: Cursor>(mut cursor: C) -> bool {
    let begin = cursor.offset();
    let Some(datagram) = cursor.skip(PORTS_LEN).and_then(|()| cursor.read::<Datagram>()) else {
        return false;
    };
    let length = usize::from(u16::from_be_bytes(datagram.length_be));
    if length > LONGEST_LOOKUP {
        return false;
    }
    let call = &datagram.call;
    let version = u64::from_be_bytes(call.program_and_version_be).wrapping_sub(FIRST_VERSION);
    if call.message_type_and_rpc_version_be != CALL_OF_VERSION_2 || version > LAST_VERSION - FIRST_VERSION {
        return false;
    }
    let Some(arguments) = Arguments::of(version, u32::from_be_bytes(call.procedure_be)) else { return false };
    let Some(end) = end_of(cursor, arguments) else { return false };
    end == begin + length && !hides_call(cursor, end)
}

/// The end of a call whose credentials begin at `cursor`.
#[inline(always)]
fn end_of<C: Cursor>(mut cursor: C, arguments: Arguments) -> Option<usize> {
    // The credentials, and the verifier: a word, and bytes as in a string.
    for _ in 0..2 {
        cursor.skip(4)?;
        skip_string(&mut cursor, LONGEST_AUTH)?;
    }
    match arguments {
        Arguments::None => {}
        Arguments::Mapping => cursor.skip(16)?,
        Arguments::Service => {
            cursor.skip(8)?;
            for _ in 0..3 {
                skip_string(&mut cursor, LONGEST_STRING)?;
            }
        }
        Arguments::Text => skip_string(&mut cursor, LONGEST_STRING)?,
        Arguments::Address => {
            cursor.skip(4)?;
            skip_string(&mut cursor, LONGEST_STRING)?;
        }
    }
    Some(cursor.offset())
}

/// Skips a length and so many bytes, which are padded to a multiple of four (RFC 4506, section 4.10).
#[inline(always)]
fn skip_string(cursor: &mut impl Cursor, longest: u32) -> Option<()> {
    let length = u32::from_be_bytes(cursor.read::<[u8; 4]>()?);
    if length > longest {
        return None;
    }
    cursor.skip(((length + 3) & !3) as usize)
}

/// Whether a call to rpcbind begins between `cursor` and `end`, at any byte.
#[inline(always)]
fn hides_call(mut cursor: impl Cursor, end: usize) -> bool {
    // The last two words.
    let mut last: u64 = 0;
    for _ in 0..LONGEST_LOOKUP / 4 {
        if cursor.offset() >= end {
            return false;
        }
        let Some(word) = cursor.read::<[u8; 4]>() else { return true };
        let word = u64::from(u32::from_be_bytes(word));
        for shift in [8, 16, 24, 32] {
            if last << shift | word >> (32 - shift) == CALL_TO_RPCBIND {
                return true;
            }
        }
        last = last << 32 | word;
    }
    cursor.offset() < end
}

#[cfg(test)]
mod tests;
