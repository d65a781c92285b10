//! Which entry of a list is about an address; pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// The entry that decides about an address: the longest of the prefixes that cover it.
pub fn covering(prefixes: impl IntoIterator<Item = IpNet>, source: IpAddr) -> Option<(usize, IpNet)> {
    prefixes
        .into_iter()
        .enumerate()
        .filter(|(_, prefix)| prefix.contains(&source))
        .max_by_key(|(_, prefix)| prefix.prefix_len())
}

/// The entry that comes nearest to covering an address that none covers: it has the longest beginning in common with
/// it, and of those that have, it is the next one, and the largest. `None` if no entry is of the address's family.
pub fn nearest(prefixes: impl IntoIterator<Item = IpNet>, source: IpAddr) -> Option<(usize, IpNet)> {
    let wanted = bits(source);
    prefixes
        .into_iter()
        .enumerate()
        .filter(|(_, prefix)| prefix.addr().is_ipv4() == source.is_ipv4())
        .min_by_key(|(_, prefix)| {
            let (first, last) = (bits(prefix.network()), bits(prefix.broadcast()));
            let differing = u128::BITS - (first ^ wanted).leading_zeros();
            let distance = if wanted < first { first - wanted } else { wanted.saturating_sub(last) };
            (differing, distance, prefix.prefix_len())
        })
}

/// An address as an integer; those of a family are in order.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_decides() {
        let list = prefixes(&["10.0.0.0/8", "10.1.2.0/24", "10.1.0.0/16", "::/0"]);
        for (address, index) in [("10.1.2.3", 1), ("10.1.3.3", 2), ("10.2.2.2", 0), ("2001:db8::1", 3)] {
            assert_eq!(covering(list.clone(), source(address)).unwrap(), (index, list[index]), "{address}");
        }
        assert_eq!(covering(list, source("11.0.0.1")), None);
    }

    #[test]
    fn the_nearest_entry_shares_the_longest_beginning() {
        let list = prefixes(&["198.51.100.0/24", "203.0.113.0/30", "203.0.113.0/29", "203.0.112.0/24"]);
        assert_eq!(nearest(list.clone(), source("203.0.113.9")), Some((2, list[2])));
        // 198.51.100.0 is nearer in numbers, but another network.
        assert_eq!(nearest(list.clone(), source("198.51.101.0")), Some((0, list[0])));
        assert_eq!(nearest(list.clone(), source("203.0.111.255")), Some((3, list[3])));
        assert_eq!(nearest(list, source("2001:db8::1")), None, "another family");
        let list = prefixes(&["2001:db8:1::/48", "2001:db8:2::/48", "0.0.0.0/0"]);
        assert_eq!(nearest(list.clone(), source("2001:db8:3::9")), Some((1, list[1])));
        assert_eq!(nearest([], source("192.0.2.1")), None);
    }
}
