//! Lists of prefixes that look-ups are tried on: random, and made to be difficult.

use std::net::IpAddr;

use fastrand::Rng;

/// A prefix: the upper bits of 128 are its network address, the others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits {
    /// The network address.
    pub network: u128,
    /// How many of its bits count.
    pub length: u32,
}

/// What a list is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any lengths, anywhere.
    Sparse,
    /// Single addresses and pairs, all within a small network.
    Dense,
    /// Each within the one before it, down to single addresses, and some beside them.
    Nested,
    /// Neighbours, of which many add up to larger networks.
    Touching,
    /// Clusters that are alike in all but a few bits in the middle of their addresses.
    Clusters,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sparse, Self::Dense, Self::Nested, Self::Touching, Self::Clusters];
}

impl Bits {
    /// The prefix that `address` has with a length.
    pub fn of(address: u128, length: u32) -> Self {
        Self { network: address & !Self::host_bits(length), length }
    }

    fn host_bits(length: u32) -> u128 {
        u128::MAX.checked_shr(length).unwrap_or(0)
    }

    /// The last address.
    pub fn last(self) -> u128 {
        self.network | Self::host_bits(self.length)
    }

    /// Whether it has an address.
    pub fn covers(self, address: u128) -> bool {
        self.network <= address && address <= self.last()
    }
}

/// `count` prefixes of a kind, and fewer if some are the same, in order; for addresses of `width` bits.
pub fn list(rng: &mut Rng, kind: Kind, count: usize, width: u32) -> Vec<Bits> {
    // Longer prefixes are commoner, as in real lists; very short ones cover all the others.
    let anywhere = rng.u128(..);
    let mut list: Vec<Bits> = (0..count)
        .map(|number| match kind {
            Kind::Sparse => Bits::of(rng.u128(..), rng.u32(width / 8..=width).max(rng.u32(0..=width / 2))),
            Kind::Dense => {
                let spread = (count as u128 * 3).next_power_of_two();
                let host = rng.u128(0..spread) << (128 - width);
                Bits::of(anywhere & !(spread << (128 - width)).wrapping_sub(1) | host, width - rng.u32(0..2))
            }
            Kind::Nested => {
                let length = number as u32 % (width + 1);
                let beside = if rng.bool() { 1_u128 << 127 >> rng.u32(0..width) } else { 0 };
                Bits::of(anywhere ^ beside, length.max(if number < 200 { 0 } else { width / 2 }))
            }
            Kind::Touching => {
                let length = width - rng.u32(0..4);
                Bits::of(anywhere.wrapping_add((rng.u128(0..count as u128 * 4)) << (128 - length)), length)
            }
            Kind::Clusters => {
                let middle = rng.u128(0..16) << (128 - width / 2) | rng.u128(0..64) << (128 - width);
                Bits::of(anywhere ^ middle, width - rng.u32(0..3))
            }
        })
        .collect();
    if kind == Kind::Nested && !rng.bool() {
        // /0 covers everything, which hides all else.
        list.retain(|prefix| prefix.length > 1);
    }
    list.sort_unstable();
    list.dedup();
    list
}

/// An address where a mistake would show: at an edge of a prefix, near one, in one, or anywhere.
pub fn probe(rng: &mut Rng, list: &[Bits], width: u32) -> u128 {
    let step = 1_u128 << (128 - width);
    let Some(prefix) = rng.choice(list) else { return rng.u128(..) & !(step - 1) };
    let address = match rng.u8(0..7) {
        0 => prefix.network,
        1 => prefix.last(),
        2 => prefix.network.wrapping_sub(step),
        3 => prefix.last().wrapping_add(1),
        4 => prefix.network ^ 1_u128 << (128 - width) << rng.u32(0..width),
        5 => prefix.network | rng.u128(..) & Bits::host_bits(prefix.length),
        _ => rng.u128(..),
    };
    address & !(step - 1)
}

/// The address as one of IPv4 (`width` 32) or IPv6.
pub fn address(bits: u128, width: u32) -> IpAddr {
    if width == 32 { IpAddr::V4(((bits >> 96) as u32).into()) } else { IpAddr::V6(bits.into()) }
}
