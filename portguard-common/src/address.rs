//! IP addresses as integers whose bytes in memory are those on the wire.
//!
//! Integers take one or two instructions to compare, hash or copy. They are also aligned, which the verifier requires on
//! the stack: the compiler would split an array of bytes into parts at odd addresses.

use core::fmt::Debug;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::layout::Shared;

/// An IPv4 address: its four bytes in network order, read as a native integer.
pub type V4 = u32;

/// An IPv6 address: its first and its last eight bytes in network order, each read as a native integer.
pub type V6 = [u64; 2];

/// An IP address.
pub trait Address: Shared + PartialEq + Debug {
    /// The bytes of the address in network order.
    type Wire;

    /// The length of the header of a packet with such addresses, without options.
    const HEADER_LEN: usize;

    /// The address with these bytes.
    fn from_wire(wire: Self::Wire) -> Self;

    /// The address as the type of the standard library, which prints it in the usual notation.
    fn ip(self) -> IpAddr;
}

impl Address for V4 {
    type Wire = [u8; 4];

    const HEADER_LEN: usize = 20;

    #[inline(always)]
    fn from_wire(wire: [u8; 4]) -> Self {
        Self::from_ne_bytes(wire)
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.to_ne_bytes()).into()
    }
}

impl Address for V6 {
    type Wire = [u8; 16];

    const HEADER_LEN: usize = 40;

    #[inline(always)]
    fn from_wire(wire: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, rest @ ..] = wire;
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
    }

    fn ip(self) -> IpAddr {
        let [first, second] = self.map(u64::from_be);
        Ipv6Addr::from(u128::from(first) << 64 | u128::from(second)).into()
    }
}

/// An address of either family as one of IPv6: that of IPv4 is mapped (RFC 4291, section 2.5.5.2).
pub const fn mapped(address: V4) -> V6 {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_bytes_of_the_wire() {
        assert_eq!(V4::from_wire([192, 0, 2, 1]).ip(), IpAddr::from([192, 0, 2, 1]));
        let wire = [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];
        assert_eq!(V6::from_wire(wire).ip(), IpAddr::from(wire));
        let address = mapped(V4::from_wire([192, 0, 2, 1])).ip();
        assert_eq!(address, IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]));
        assert_eq!(address.to_canonical(), IpAddr::from([192, 0, 2, 1]));
    }
}
