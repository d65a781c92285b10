//! Allowlists of any size, and sources that are on them or not: the same ones in every run.
//!
//! The lists are like those in the field, networks and hosts of many lengths. Half of the entries lie anywhere; the
//! other half is crowded into few sites (a /20, a /32 of IPv6), as an organisation's own hosts are. Sources of a flood
//! are drawn from all addresses, as forged ones are, and are not on the list; neighbours are not on it either, but
//! share all but their last bits with an entry.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::results::Family;

/// A weight, and a length of prefix that is drawn as often as that in a thousand.
const LENGTHS_V4: [(u32, u8); 10] =
    [(2, 16), (3, 18), (5, 20), (20, 22), (20, 23), (350, 24), (50, 26), (50, 28), (50, 29), (450, 32)];
const LENGTHS_V6: [(u32, u8); 7] =
    [(30, 32), (50, 40), (350, 48), (120, 56), (250, 64), (50, 112), (150, 128)];

/// So many entries share a site.
const SITE: usize = 256;

/// How much of an address neighbours have in common.
const NEIGHBOURHOOD: [u8; 2] = [24, 48];

/// A prefix of either family: an address as an integer of the family's width, host bits clear, and the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    /// The bits of the address, right-aligned.
    pub(super) bits: u128,
    /// How many of them count.
    pub(super) length: u8,
}

/// A list of one family.
#[derive(Debug)]
pub(super) struct List {
    family: Family,
    prefixes: Vec<Prefix>,
    known: HashSet<Prefix>,
}

impl List {
    /// A list with so many prefixes, no two alike.
    pub(super) fn generate(family: Family, size: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(size as u64 ^ (u64::from(family.width()) << 32));
        let site_length = match family {
            Family::V4 => 20,
            Family::V6 => 32,
        };
        let sites: Vec<u128> =
            (0..=size / SITE).map(|_| masked(anywhere(&mut random, family), site_length, family)).collect();
        let mut prefixes = BTreeSet::new();
        while prefixes.len() < size {
            let length = draw_length(&mut random, family);
            let address = anywhere(&mut random, family);
            let address = if random.bool() && length > site_length {
                let site = sites[random.usize(..sites.len())];
                site | (address & host_mask(site_length, family))
            } else {
                address
            };
            prefixes.insert(Prefix { bits: masked(address, length, family), length });
        }
        let known = prefixes.iter().copied().collect();
        Self { family, prefixes: prefixes.into_iter().collect(), known }
    }

    /// A list of IPv4 with so many single hosts.
    pub(super) fn hosts(size: usize) -> Self {
        let family = Family::V4;
        let mut random = fastrand::Rng::with_seed(size as u64);
        let mut prefixes = BTreeSet::new();
        while prefixes.len() < size {
            prefixes.insert(Prefix { bits: anywhere(&mut random, family), length: family.width() });
        }
        let known = prefixes.iter().copied().collect();
        Self { family, prefixes: prefixes.into_iter().collect(), known }
    }

    /// The same list with another prefix in place of one in a hundred, and of one at least.
    pub(super) fn with_hundredth_changed(&self) -> Self {
        let other = Self::generate(self.family, self.prefixes.len() + 1);
        let mut new = other.prefixes.iter().filter(|prefix| !self.known.contains(*prefix));
        let mut known = self.known.clone();
        for gone in self.prefixes.iter().step_by(100) {
            known.remove(gone);
            known.extend(new.next());
        }
        let mut prefixes: Vec<_> = known.iter().copied().collect();
        prefixes.sort_unstable();
        Self { family: self.family, prefixes, known }
    }

    /// The prefixes, sorted.
    pub(super) fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// The prefixes as they are written: address and length.
    pub(super) fn written(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.prefixes.iter().map(|prefix| (ip(prefix.bits, self.family), prefix.length))
    }

    /// The same list but for its last prefix.
    pub(super) fn without_last(&self) -> Self {
        let (gone, prefixes) = self.prefixes.split_last().unzip();
        let mut known = self.known.clone();
        if let Some(gone) = gone {
            known.remove(gone);
        }
        Self { family: self.family, prefixes: prefixes.map_or_else(Vec::new, <[Prefix]>::to_vec), known }
    }

    /// The family.
    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// Whether an entry covers the address.
    fn covers(&self, address: u128) -> bool {
        let lengths: &[(u32, u8)] = match self.family {
            Family::V4 => &LENGTHS_V4,
            Family::V6 => &LENGTHS_V6,
        };
        lengths.iter().any(|&(_, length)| {
            self.known.contains(&Prefix { bits: masked(address, length, self.family), length })
        })
    }

    /// Different sources that no entry covers, from everywhere.
    pub(super) fn strangers(&self, count: usize) -> Vec<IpAddr> {
        let family = self.family;
        self.distinct(count, |random| anywhere(random, family), |address| !self.covers(address))
    }

    /// Different sources that no entry covers, next to entries.
    pub(super) fn neighbours(&self, count: usize) -> Vec<IpAddr> {
        let shared = NEIGHBOURHOOD[usize::from(self.family == Family::V6)];
        let next_to = |random: &mut fastrand::Rng| {
            let entry = self.prefixes[random.usize(..self.prefixes.len())];
            let stranger = random.u128(..) & host_mask(shared.min(entry.length), self.family);
            masked(entry.bits, shared.min(entry.length), self.family) | stranger
        };
        self.distinct(count, next_to, |address| !self.covers(address))
    }

    /// Different sources that an entry covers, as far as there are so many.
    pub(super) fn members(&self, count: usize) -> Vec<IpAddr> {
        let inside = |random: &mut fastrand::Rng| {
            let entry = self.prefixes[random.usize(..self.prefixes.len())];
            entry.bits | (random.u128(..) & host_mask(entry.length, self.family))
        };
        self.distinct(count, inside, |_| true)
    }

    /// Draws until there are enough, or it seems that there are no more.
    fn distinct(
        &self,
        count: usize,
        draw: impl Fn(&mut fastrand::Rng) -> u128,
        fits: impl Fn(u128) -> bool,
    ) -> Vec<IpAddr> {
        let mut random = fastrand::Rng::with_seed(count as u64 + 1);
        let mut seen = HashSet::new();
        let mut sources = Vec::new();
        for _ in 0..count * 64 {
            let address = draw(&mut random);
            if fits(address) && seen.insert(address) {
                sources.push(ip(address, self.family));
                if sources.len() == count {
                    break;
                }
            }
        }
        sources
    }
}

/// The file that portguard reads.
pub(super) fn yaml(lists: &[&List]) -> String {
    let mut text = "allow:\n".to_owned();
    for list in lists {
        for (address, length) in list.written() {
            let _ = writeln!(text, "  - {address}/{length}");
        }
    }
    text
}

/// A list whose entries all have conditions: each ends some time, and permits lookups only.
pub(super) fn yaml_with_conditions(lists: &[&List]) -> String {
    let mut text = "allow:\n".to_owned();
    for list in lists {
        for (address, length) in list.written() {
            let _ = writeln!(text, "  - {{prefix: '{address}/{length}', until: 2199-12-31, udp: lookups}}");
        }
    }
    text
}

/// An address that hosts in the internet may have: 1.0.0.0 to 223.255.255.255 but 127.0.0.0/8, 2000::/3.
fn anywhere(random: &mut fastrand::Rng, family: Family) -> u128 {
    match family {
        Family::V4 => loop {
            let address = random.u32(0x0100_0000..0xe000_0000);
            if address >> 24 != 127 {
                return address.into();
            }
        },
        Family::V6 => (random.u128(..) >> 3) | (1 << 125),
    }
}

fn draw_length(random: &mut fastrand::Rng, family: Family) -> u8 {
    let lengths: &[(u32, u8)] = match family {
        Family::V4 => &LENGTHS_V4,
        Family::V6 => &LENGTHS_V6,
    };
    let mut ticket = random.u32(..lengths.iter().map(|(weight, _)| weight).sum::<u32>());
    for &(weight, length) in lengths {
        if ticket < weight {
            return length;
        }
        ticket -= weight;
    }
    family.width()
}

/// The bits behind a prefix of that length.
fn host_mask(length: u8, family: Family) -> u128 {
    let host_bits = u32::from(family.width() - length);
    u128::MAX.checked_shl(host_bits).map_or(u128::MAX, |network| !network)
}

fn masked(address: u128, length: u8, family: Family) -> u128 {
    address & !host_mask(length, family)
}

fn ip(address: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(address as u32).into(),
        Family::V6 => Ipv6Addr::from(address).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_the_size_and_are_the_same_every_time() {
        for family in [Family::V4, Family::V6] {
            for size in [10, 1000, 20_000] {
                let list = List::generate(family, size);
                assert_eq!(list.prefixes.len(), size);
                assert_eq!(list.prefixes, List::generate(family, size).prefixes);
                let host_bits = |prefix: &&Prefix| prefix.bits & host_mask(prefix.length, family) != 0;
                assert_eq!(list.prefixes.iter().find(host_bits), None);
            }
        }
    }

    #[test]
    fn members_are_covered_and_strangers_and_neighbours_are_not() {
        for family in [Family::V4, Family::V6] {
            let list = List::generate(family, 1000);
            let is_covered = |address: &IpAddr| match *address {
                IpAddr::V4(address) => list.covers(u32::from(address).into()),
                IpAddr::V6(address) => list.covers(address.into()),
            };
            for sources in [list.strangers(5000), list.neighbours(5000)] {
                assert_eq!(sources.iter().collect::<HashSet<_>>().len(), 5000);
                assert_eq!(sources.iter().find(|source| is_covered(source)), None);
            }
            assert!(list.members(5000).iter().all(is_covered));
        }
    }
}
