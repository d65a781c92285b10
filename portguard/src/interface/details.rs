//! The details of a device beyond its kind: `IFLA_INFO_DATA`, whose attributes have another meaning for each kind.

use super::decode::whole_number;
use crate::netlink::{Attributes, Failure, u16_at};

/// `include/uapi/linux/if_link.h`: the type of a tun device, a byte, and whether it has packet information, a byte.
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PI: u16 = 4;
/// The mode of a macvlan, `MACVLAN_MODE_*`, 4 bytes.
const IFLA_MACVLAN_MODE: u16 = 1;
/// The flags of an ipvlan, `IPVLAN_F_*`, 2 bytes.
const IFLA_IPVLAN_FLAGS: u16 = 2;
/// The mode of a bond, `BOND_MODE_*`, and its policy for choosing ports, `BOND_XMIT_POLICY_*`; a byte each.
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_XMIT_HASH_POLICY: u16 = 14;
/// The index of the interface that a vxlan sends over, 4 bytes.
const IFLA_VXLAN_LINK: u16 = 3;
/// The indexes of the ports of a ring, 4 bytes each.
const IFLA_HSR_SLAVE1: u16 = 1;
const IFLA_HSR_SLAVE2: u16 = 2;

/// `IFF_TAP` of `include/uapi/linux/if_tun.h`.
const IFF_TAP: u8 = 2;
/// `MACVLAN_MODE_BRIDGE`.
const MACVLAN_MODE_BRIDGE: u32 = 4;

/// `BOND_XMIT_POLICY_VLAN_SRCMAC`.
const VLAN_SRCMAC: u8 = 5;
/// `IPVLAN_F_PRIVATE` and `IPVLAN_F_VEPA`.
const IPVLAN_NOT_SWITCHED: u16 = 1 | 2;

/// The details of a device beyond its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Details {
    /// No details that portguard needs.
    #[default]
    None,
    /// A tun or tap device.
    Tun {
        /// Whether its packets are Ethernet frames (tap). The link type does not show that, because it can be set to any
        /// value (`TUNSETLINK`). `None` if the kernel does not report it.
        ethernet: Option<bool>,
        /// Whether its packets begin with packet information (a device without `IFF_NO_PI`).
        packet_information: bool,
    },
    /// A macvlan or macvtap.
    Macvlan {
        /// Whether packets between it and its siblings are switched without the interface under them (mode bridge).
        switched: bool,
    },
    /// An ipvlan or ipvtap.
    Ipvlan {
        /// Whether packets between it and its siblings are switched without the interface under them (neither private
        /// nor vepa).
        switched: bool,
    },
    /// A bond.
    Bond {
        /// Its mode.
        mode: BondMode,
        /// Whether it chooses ports by VLAN and address of the sender (`vlan+srcmac`).
        vlan_srcmac: bool,
    },
    /// A device that is on top of others, which only these details show: a vxlan, or a ring.
    Above {
        /// The indexes of the interfaces under it.
        lower: [Option<u32>; 2],
    },
}

/// `BOND_MODE_*` of `include/uapi/linux/if_bonding.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BondMode(pub u8);

impl BondMode {
    /// Its name in `ip link` and in `bonding.rst`.
    pub fn key(self) -> &'static str {
        const WORDS: [&str; 7] = [
            "balance-rr",
            "active-backup",
            "balance-xor",
            "broadcast",
            "802.3ad",
            "balance-tlb",
            "balance-alb",
        ];
        WORDS.get(usize::from(self.0)).copied().unwrap_or("unknown")
    }

    /// Whether a bond in this mode may have native XDP, if it does not choose its ports by `vlan+srcmac`
    /// (`bond_xdp_check` in `drivers/net/bonding/bond_main.c`).
    pub fn has_native(self) -> bool {
        self.ignores_policy() || matches!(self.0, 2 | 4)
    }

    /// Whether it chooses ports independently of the content of packets.
    pub fn ignores_policy(self) -> bool {
        matches!(self.0, 0 | 1)
    }
}

impl Details {
    /// Decodes the details of a device of this kind.
    pub(super) fn decode(kind: &str, data: &[u8]) -> Result<Self, Failure> {
        Ok(match kind {
            "tun" => {
                let kind = first_byte(data, IFLA_TUN_TYPE)?;
                Self::Tun {
                    ethernet: kind.map(|kind| kind == IFF_TAP),
                    packet_information: first_byte(data, IFLA_TUN_PI)?.is_some_and(|byte| byte != 0),
                }
            }
            "macvlan" | "macvtap" => {
                let mode = find(data, IFLA_MACVLAN_MODE)?;
                let mode = mode.map(|value| whole_number(value, "the mode of a macvlan")).transpose()?;
                Self::Macvlan { switched: mode == Some(MACVLAN_MODE_BRIDGE) }
            }
            "ipvlan" | "ipvtap" => {
                let flags = find(data, IFLA_IPVLAN_FLAGS)?.and_then(|value| u16_at(value, 0));
                Self::Ipvlan { switched: flags.unwrap_or_default() & IPVLAN_NOT_SWITCHED == 0 }
            }
            "bond" => match first_byte(data, IFLA_BOND_MODE)? {
                Some(mode) => {
                    let policy = first_byte(data, IFLA_BOND_XMIT_HASH_POLICY)?;
                    Self::Bond { mode: BondMode(mode), vlan_srcmac: policy == Some(VLAN_SRCMAC) }
                }
                None => Self::None,
            },
            "vxlan" => Self::Above { lower: [index(data, IFLA_VXLAN_LINK)?, None] },
            "hsr" => Self::Above { lower: [index(data, IFLA_HSR_SLAVE1)?, index(data, IFLA_HSR_SLAVE2)?] },
            _ => Self::None,
        })
    }
}

fn find(data: &[u8], wanted: u16) -> Result<Option<&[u8]>, Failure> {
    for attribute in Attributes::new(data) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn index(data: &[u8], wanted: u16) -> Result<Option<u32>, Failure> {
    find(data, wanted)?.map(|value| whole_number(value, "the index of a lower interface")).transpose()
}

fn first_byte(data: &[u8], wanted: u16) -> Result<Option<u8>, Failure> {
    Ok(find(data, wanted)?.and_then(|value| value.first().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    #[test]
    fn attributes_mean_what_they_mean_for_the_kind() {
        let one = attribute(1, &4_u32.to_ne_bytes());
        let tun = [attribute(3, &[2]), attribute(4, &[1])].concat();
        let bond = [attribute(1, &[2]), attribute(14, &[5])].concat();
        let ring = [one.clone(), attribute(2, &5_u32.to_ne_bytes())].concat();
        for (kind, data, expected) in [
            ("macvlan", &one[..], Details::Macvlan { switched: true }),
            ("macvtap", &attribute(1, &1_u32.to_ne_bytes())[..], Details::Macvlan { switched: false }),
            ("bond", &one, Details::Bond { mode: BondMode(4), vlan_srcmac: false }),
            ("bond", &bond, Details::Bond { mode: BondMode(2), vlan_srcmac: true }),
            ("vxlan", &attribute(3, &7_u32.to_ne_bytes()), Details::Above { lower: [Some(7), None] }),
            ("hsr", &ring, Details::Above { lower: [Some(4), Some(5)] }),
            ("hsr", &one, Details::Above { lower: [Some(4), None] }),
            ("ipvlan", &attribute(2, &[1, 0])[..], Details::Ipvlan { switched: false }),
            ("ipvtap", &attribute(1, &[2, 0])[..], Details::Ipvlan { switched: true }),
            ("tun", &tun, Details::Tun { ethernet: Some(true), packet_information: true }),
            ("tun", &[], Details::Tun { ethernet: None, packet_information: false }),
            ("geneve", &one, Details::None),
            ("bond", &[], Details::None),
        ] {
            assert_eq!(Details::decode(kind, data).unwrap(), expected, "{kind}");
        }
        assert!(Details::decode("macvlan", &attribute(1, &[4])).is_err(), "too short");
        assert!(Details::decode("bond", &one[..6]).is_err(), "cut off");
    }

    #[test]
    fn modes_of_a_bond_have_the_words_of_its_documentation() {
        assert_eq!(
            (BondMode(1).key(), BondMode(6).key(), BondMode(7).key()),
            ("active-backup", "balance-alb", "unknown")
        );
        let native: Vec<u8> = (0..8).filter(|mode| BondMode(*mode).has_native()).collect();
        assert_eq!(native, [0, 1, 2, 4]);
    }
}
