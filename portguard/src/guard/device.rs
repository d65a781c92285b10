//! Which devices can be guarded, and at which hook: those whose packets pass it in a form that portguard can read. On any other device, a
//! guard would be attached and the port would be open. `docs/attach-points.md` has the same table, and the test of each
//! row.

use portguard_common::frame::LinkType;

use crate::error::{Error, Kind, Result};
use crate::guard::hook::HookKind;
use crate::interface::{Details, Interface};

/// `ARPHRD_*`, `include/uapi/linux/if_arp.h`.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_NONE: u16 = 0xfffe;

/// The packets of a kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packets {
    /// They are Ethernet frames, and pass XDP.
    Ethernet,
    /// They begin with the IP header, and pass XDP.
    Ip,
    /// They are of either kind, as the link type says, and pass XDP.
    EthernetOrIp,
    /// They are of either kind, as the type of the device says (tap or tun), and pass XDP.
    OfTun,
    /// They do not pass XDP, or not all of them.
    Unseen {
        /// Why they do not pass XDP, for an error message.
        why: &'static str,
        /// The advice to guard another interface.
        instead: &'static str,
    },
}

/// The kinds (`IFLA_INFO_KIND`) that were tested. Any other kind is refused: whether its packets pass XDP is not known.
const KINDS: [(&str, Packets); 26] = [
    ("batadv", Packets::Ethernet),
    ("bond", Packets::Ethernet),
    ("bridge", Packets::Ethernet),
    ("dsa", Packets::Ethernet),
    ("dummy", Packets::Ethernet),
    ("erspan", Packets::Ethernet),
    ("geneve", Packets::Ethernet),
    ("gretap", Packets::Ethernet),
    ("hsr", Packets::Ethernet),
    ("ip6erspan", Packets::Ethernet),
    ("ip6gretap", Packets::Ethernet),
    ("macsec", Packets::Ethernet),
    ("macvlan", Packets::Ethernet),
    ("macvtap", Packets::Ethernet),
    ("netkit", Packets::EthernetOrIp),
    ("openvswitch", Packets::Ethernet),
    ("team", Packets::Ethernet),
    ("tun", Packets::OfTun),
    ("veth", Packets::Ethernet),
    ("vlan", Packets::Ethernet),
    ("vxlan", Packets::Ethernet),
    ("wireguard", Packets::Ip),
    // `skb_is_redirected` in `net/core/dev.c`.
    (
        "ifb",
        Packets::Unseen { why: "packets that were redirected to it do not pass XDP again", instead: ABOVE },
    ),
    // `ipvlan_handle_frame`, `ipvlan_l3s.c`.
    ("ipvlan", Packets::Unseen { why: IPVLAN, instead: BELOW }),
    ("ipvtap", Packets::Unseen { why: IPVLAN, instead: BELOW }),
    ("vrf", Packets::Unseen { why: "packets arrive on its ports, and pass XDP there", instead: ABOVE }),
];
const IPVLAN: &str = "in mode l3s its packets do not pass XDP, and its mode can be changed at any time";
const BELOW: &str = "Guard the interface under it: a guard there judges all packets that arrive for both.";
const ABOVE: &str = "Guard the interfaces on which its packets arrive.";

/// The kinds of tunnels without Ethernet whose packets were tested at tcx, where each has its IP header, whatever is in front of it.
const TUNNELS: [&str; 4] = ["gre", "ip6gre", "ip6tnl", "sit"];

/// The first header of the frames of an interface at a hook; an error if a guard would be attached and the port open.
pub(super) fn link_type(interface: &Interface, hook: HookKind) -> Result<LinkType> {
    let is_tunnel = interface.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind));
    match hook {
        HookKind::Tcx if is_tunnel => Ok(LinkType::RawIp),
        HookKind::Xdp | HookKind::Tcx => {
            link_type_at_xdp(interface).map_err(|error| error.of_kind(Kind::HookRefused))
        }
    }
}

fn link_type_at_xdp(interface: &Interface) -> Result<LinkType> {
    let Interface { name, hardware_type, kind, .. } = interface;
    if interface.loopback {
        return Err(Error::failed(format!("{name}: the loopback interface is not guarded"))
            .because("local clients of rpcbind use it, and no packet from outside arrives on it")
            .remedy("Attach to the interfaces that face the network."));
    }
    let packets = match kind.as_deref() {
        _ if interface.carries_switch_tags() => Packets::Unseen {
            why: "its frames have tags of the switch that is behind it (DSA), which portguard cannot read",
            instead: "Guard the ports of the switch.",
        },
        // A card.
        None => Packets::Ethernet,
        Some(kind) => match KINDS.iter().find(|(known, _)| *known == kind) {
            Some((_, packets)) => *packets,
            None => Packets::Unseen {
                why: "portguard does not know whether packets of this kind of device pass XDP",
                instead: "Guard port 111 on it by other means (nft).",
            },
        },
    };
    match (packets, *hardware_type, interface.details) {
        // The link type of a tun device does not matter: it can be set to any value (`TUNSETLINK`), also under a guard.
        (Packets::OfTun, _, Details::Tun { ethernet: Some(true), .. })
        | (Packets::Ethernet | Packets::EthernetOrIp, ARPHRD_ETHER, _) => Ok(LinkType::Ethernet),
        (Packets::OfTun, _, Details::Tun { ethernet: Some(false), .. })
        | (Packets::Ip | Packets::EthernetOrIp, ARPHRD_NONE, _) => Ok(LinkType::RawIp),
        (Packets::Unseen { why, instead }, ARPHRD_ETHER, _) => Err(cannot(interface, why).remedy(instead)),
        (_, other, _) => {
            let kind = kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            Err(Error::failed(format!("{name}: link type {other}{kind} is not known to portguard"))
                .because("the guard could not find the start of a packet, and would pass every packet")
                .remedy("Guard port 111 on this interface by other means (nft)."))
        }
    }
}

fn cannot(interface: &Interface, why: &str) -> Error {
    let kind = interface.kind.as_ref().map(|kind| format!("a device of kind {kind}"));
    let what = kind.unwrap_or_else(|| "this device".to_owned());
    Error::failed(format!("{}: {what} cannot be guarded", interface.name))
        .because(format!("{why}; the guard would pass every packet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: Option<&str>, hardware_type: u16, details: Details) -> Interface {
        Interface { kind: kind.map(str::to_owned), hardware_type, details, ..Interface::example() }
    }

    #[test]
    fn a_device_is_guarded_if_it_is_known_to_be_covered_and_refused_else() {
        use LinkType::{Ethernet, RawIp};
        let tun = |ethernet| Details::Tun { ethernet, packet_information: false };
        let (frames, packets, untold) = (tun(Some(true)), tun(Some(false)), tun(None));
        const IPGRE: u16 = 778;
        for (kind, hardware_type, details, expected) in [
            // A card.
            (None, ARPHRD_ETHER, Details::None, Some(Ethernet)),
            (None, ARPHRD_NONE, Details::None, None),
            (Some("veth"), ARPHRD_ETHER, Details::None, Some(Ethernet)),
            (Some("tun"), ARPHRD_ETHER, frames, Some(Ethernet)),
            (Some("tun"), ARPHRD_NONE, packets, Some(RawIp)),
            // The link type of the device was changed.
            (Some("tun"), ARPHRD_ETHER, packets, Some(RawIp)),
            (Some("tun"), ARPHRD_NONE, frames, Some(Ethernet)),
            (Some("tun"), IPGRE, packets, Some(RawIp)),
            (Some("tun"), ARPHRD_ETHER, untold, None),
            (Some("tun"), ARPHRD_NONE, untold, None),
            (Some("wireguard"), ARPHRD_NONE, Details::None, Some(RawIp)),
            (Some("wireguard"), ARPHRD_ETHER, Details::None, None),
            (Some("netkit"), ARPHRD_ETHER, Details::None, Some(Ethernet)),
            (Some("netkit"), ARPHRD_NONE, Details::None, Some(RawIp)),
            (Some("vxlan"), ARPHRD_NONE, Details::None, None),
            (Some("ipvlan"), ARPHRD_ETHER, Details::None, None),
            (Some("gre"), IPGRE, Details::None, None),
            // A kind of a later kernel.
            (Some("quantum"), ARPHRD_ETHER, Details::None, None),
            (Some("quantum"), ARPHRD_NONE, Details::None, None),
        ] {
            let told = link_type(&device(kind, hardware_type, details), HookKind::Xdp);
            assert_eq!(told.as_ref().ok(), expected.as_ref(), "{kind:?} {hardware_type}: {told:?}");
            if let Err(error) = told {
                assert!(error.why().is_some() && error.advice().is_some(), "{error}");
            }
        }
    }

    #[test]
    fn each_kind_stands_once() {
        for (position, (kind, _)) in KINDS.iter().enumerate() {
            assert!(!KINDS[..position].iter().any(|(other, _)| other == kind), "{kind}");
        }
    }
}
