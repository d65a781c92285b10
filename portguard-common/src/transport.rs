//! TCP and UDP, as far as the verdict needs them: both have their ports in the first four bytes (RFC 768, RFC 9293).

use crate::PORT;
use crate::cursor::Cursor;
use crate::layout::Wire;
use crate::listed;
use crate::verdict::Fault;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

listed! {
    /// A transport protocol with ports that rpcbind listens on.
    pub enum Protocol {
        /// UDP, RFC 768.
        Udp = "udp",
        /// TCP, RFC 9293.
        Tcp = "tcp",
    }
}

impl Protocol {
    /// The protocol with this IP protocol number, if it is one of the two.
    #[inline(always)]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            TCP => Some(Self::Tcp),
            UDP => Some(Self::Udp),
            _ => None,
        }
    }

    /// Its IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Udp => UDP,
            Self::Tcp => TCP,
        }
    }

    /// Its name, in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// The first four bytes of TCP and UDP.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Ports {
    source_be: [u8; 2],
    destination_be: [u8; 2],
}

// SAFETY: `repr(C)`, two byte arrays.
unsafe impl Wire for Ports {}

/// The source port of the segment or datagram at `cursor`, in network byte order; `None` if it is not for [`PORT`].
#[inline(always)]
pub(crate) fn source_port_of_candidate(mut cursor: impl Cursor) -> Result<Option<[u8; 2]>, Fault> {
    let ports = cursor.read::<Ports>().ok_or(Fault::Truncated)?;
    Ok((ports.destination_be == PORT.to_be_bytes()).then_some(ports.source_be))
}
