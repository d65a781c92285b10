//! Which addresses a list covers. A source table may hold a million sources, so the maps of the list are not asked about each of them.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes in order, of which none covers a part of another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered(Vec<IpNet>);

impl Covered {
    /// What the prefixes of a list cover together.
    pub fn by(prefixes: &[IpNet]) -> Self {
        Self(IpNet::aggregate(&prefixes.to_vec()))
    }

    /// Whether an address is covered.
    pub fn contains(&self, address: IpAddr) -> bool {
        let behind = self.0.partition_point(|prefix| prefix.network() <= address);
        behind
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .is_some_and(|prefix| prefix.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Prefixes that are within each other, beside each other, or far apart.
    fn prefix() -> impl Strategy<Value = IpNet> {
        let v4 = (0_u8..4, 0_u8..=32).prop_map(|(last, length)| IpNet::new([10, 0, 0, last].into(), length));
        let v6 = (0_u16..4, 0_u8..=128)
            .prop_map(|(last, length)| IpNet::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into(), length));
        prop_oneof![v4, v6].prop_map(|prefix| prefix.unwrap().trunc())
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = prop_oneof![0x0a00_0000_u32..0x0a00_0006, any::<u32>()];
        let v6 = (0x2001_u16..0x2003, 0_u16..6).prop_map(|(first, last)| [first, 0xdb8, 0, 0, 0, 0, 0, last]);
        prop_oneof![v4.prop_map(|bits| IpAddr::from(bits.to_be_bytes())), v6.prop_map(IpAddr::from)]
    }

    proptest! {
        #[test]
        fn an_address_is_covered_if_a_prefix_covers_it(prefixes in vec(prefix(), 0..8), address in address()) {
            let expected = prefixes.iter().any(|prefix| prefix.contains(&address));
            prop_assert_eq!(Covered::by(&prefixes).contains(address), expected, "{:?}", prefixes);
        }
    }
}
