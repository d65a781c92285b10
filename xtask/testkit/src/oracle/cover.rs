//! The allowlist that is in force while random frames are tried, and who is on it, found out in the plainest way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The list, as a file.
pub const ALLOWLIST: &str = "\
allow:
  - 192.0.2.0/24
  - 198.51.100.6/31
  - 198.51.100.99
  - 100.64.0.0/10
  - 2001:db8:40::/48
  - 2001:db8:1::2/127
  - 2001:db8:1::99
";

/// The same as numbers: the first and the last address of each entry.
const IPV4: [(Ipv4Addr, Ipv4Addr); 4] = [
    (Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(192, 0, 2, 255)),
    (Ipv4Addr::new(198, 51, 100, 6), Ipv4Addr::new(198, 51, 100, 7)),
    (Ipv4Addr::new(198, 51, 100, 99), Ipv4Addr::new(198, 51, 100, 99)),
    (Ipv4Addr::new(100, 64, 0, 0), Ipv4Addr::new(100, 127, 255, 255)),
];
const IPV6: [(Ipv6Addr, Ipv6Addr); 3] = [
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
    ),
    (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 3)),
    (Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x99), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x99)),
];

/// Whether an entry covers the address.
pub fn is_listed(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => IPV4.iter().any(|(first, last)| (*first..=*last).contains(&source)),
        IpAddr::V6(source) => IPV6.iter().any(|(first, last)| (*first..=*last).contains(&source)),
    }
}

/// IPv4 sources, about half of them on the list, many at the edge of an entry.
pub(super) const SOURCES_V4: [Ipv4Addr; 20] = [
    Ipv4Addr::new(192, 0, 2, 0),
    Ipv4Addr::new(192, 0, 2, 10),
    Ipv4Addr::new(192, 0, 2, 255),
    Ipv4Addr::new(198, 51, 100, 6),
    Ipv4Addr::new(198, 51, 100, 7),
    Ipv4Addr::new(198, 51, 100, 99),
    Ipv4Addr::new(100, 64, 0, 0),
    Ipv4Addr::new(100, 127, 255, 255),
    Ipv4Addr::new(192, 0, 1, 255),
    Ipv4Addr::new(192, 0, 3, 0),
    Ipv4Addr::new(198, 51, 100, 5),
    Ipv4Addr::new(198, 51, 100, 8),
    Ipv4Addr::new(198, 51, 100, 98),
    Ipv4Addr::new(198, 51, 100, 100),
    Ipv4Addr::new(100, 63, 255, 255),
    Ipv4Addr::new(100, 128, 0, 0),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(203, 0, 113, 10),
    Ipv4Addr::new(198, 18, 7, 7),
    Ipv4Addr::new(2, 0, 192, 1),
];

/// The same for IPv6.
pub(super) const SOURCES_V6: [Ipv6Addr; 14] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0x40, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 3),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x99),
    Ipv6Addr::new(0x2001, 0xdb8, 0x3f, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
    Ipv6Addr::new(0x2001, 0xdb8, 0x41, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 4),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x98),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x9a),
    Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_on_both_sides_of_every_edge() {
        let listed = SOURCES_V4.iter().filter(|source| is_listed(IpAddr::V4(**source))).count();
        assert_eq!((listed, SOURCES_V4.len()), (8, 20));
        let listed = SOURCES_V6.iter().filter(|source| is_listed(IpAddr::V6(**source))).count();
        assert_eq!((listed, SOURCES_V6.len()), (6, 14));
    }
}
