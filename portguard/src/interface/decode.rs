//! Decodes interfaces and addresses from netlink: only the attributes that portguard needs. A malformed attribute among
//! these is a failure; all other attributes may have any content.

use std::net::IpAddr;

use nix::libc;

use super::{AttachedXdp, Details, Interface, XdpMode, name};
use crate::netlink::{Attributes, Failure, malformed, u16_at, u32_at};
use crate::printable::counted;

/// `struct ifinfomsg`.
const LINK_HEADER_LEN: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_HEADER_LEN: usize = 8;
/// `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID`, `IFLA_XDP_HW_PROG_ID`. The kernel names the program of each mode,
/// for one program and for several (`rtnl_xdp_fill`).
const XDP_MODES: [(u16, XdpMode); 3] = [(5, XdpMode::Native), (6, XdpMode::Generic), (7, XdpMode::Offload)];

/// An interface, from the body of an `RTM_NEWLINK`.
pub(super) fn interface(body: &[u8]) -> Result<Interface, Failure> {
    let header =
        || Some((u16_at(body, 2)?, u32_at(body, 4)?, u32_at(body, 8)?, body.get(LINK_HEADER_LEN..)?));
    let (hardware_type, index, flags, attributes) =
        header().ok_or_else(|| malformed("the message of an interface is cut off"))?;
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut interface = Interface {
        index,
        name: String::new(),
        mtu: 0,
        hardware_type,
        kind: None,
        loopback: has(libc::IFF_LOOPBACK),
        up: has(libc::IFF_UP),
        controller: None,
        lower: None,
        link_namespace: None,
        details: Details::None,
        alternative_names: Vec::new(),
        xdp: Vec::new(),
    };
    let odd = |failure| malformed(format!("interface {index}: {failure}"));
    for attribute in Attributes::new(attributes) {
        let (kind, value) = attribute.map_err(odd)?;
        let number = |what: &str| whole_number(value, what).map_err(odd);
        match kind {
            libc::IFLA_IFNAME => interface.name = text(value),
            libc::IFLA_MTU => interface.mtu = number("the MTU")?,
            libc::IFLA_MASTER => interface.controller = Some(number("the controller")?),
            libc::IFLA_LINK => interface.lower = Some(number("the lower interface")?),
            libc::IFLA_LINK_NETNSID => {
                interface.link_namespace = Some(number("the lower interface's namespace")?.cast_signed());
            }
            libc::IFLA_LINKINFO => link_info(value, &mut interface).map_err(odd)?,
            libc::IFLA_PROP_LIST => interface.alternative_names = alternative_names(value).map_err(odd)?,
            libc::IFLA_XDP => interface.xdp = xdp(value).map_err(odd)?,
            _ => {}
        }
    }
    if interface.name.is_empty() {
        return Err(odd(malformed("it has no name")));
    }
    Ok(interface)
}

/// The kernel's information about an IPv4 or IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressMessage {
    /// The index of its interface.
    pub interface: u32,
    /// The length of its network's prefix.
    pub prefix_length: u8,
    /// The address of the peer on a point-to-point link; otherwise the same as `local`, or the only address.
    pub address: Option<IpAddr>,
    /// The address of the interface itself.
    pub local: Option<IpAddr>,
}

/// An address, from the body of an `RTM_NEWADDR`; `None` for another family.
pub(super) fn address(body: &[u8]) -> Result<Option<AddressMessage>, Failure> {
    let header = || Some((*body.first()?, *body.get(1)?, u32_at(body, 4)?, body.get(ADDRESS_HEADER_LEN..)?));
    let (family, prefix_length, interface, attributes) =
        header().ok_or_else(|| malformed("the message of an address is cut off"))?;
    let odd = |failure| malformed(format!("an address of interface {interface}: {failure}"));
    let decode: fn(&[u8]) -> Option<IpAddr> = match family.into() {
        libc::AF_INET => |value| Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        libc::AF_INET6 => |value| Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return Ok(None),
    };
    let mut message = AddressMessage { interface, prefix_length, address: None, local: None };
    for attribute in Attributes::new(attributes) {
        let (kind, value) = attribute.map_err(odd)?;
        let address = || decode(value).ok_or_else(|| odd(malformed("it has an odd length")));
        match kind {
            libc::IFA_ADDRESS => message.address = Some(address()?),
            libc::IFA_LOCAL => message.local = Some(address()?),
            _ => {}
        }
    }
    if message.address.is_none() && message.local.is_none() {
        return Err(odd(malformed("it is missing")));
    }
    Ok(Some(message))
}

pub(super) fn whole_number(value: &[u8], what: &str) -> Result<u32, Failure> {
    let number = value.try_into().map(u32::from_ne_bytes);
    number
        .map_err(|_| malformed(format!("{what} is {} long, and not 4", counted(value.len() as u64, "byte"))))
}

/// A string from the kernel, which ends with a NUL.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    name::escape(value.get(..end).unwrap_or(value))
}

fn link_info(value: &[u8], interface: &mut Interface) -> Result<(), Failure> {
    let mut data = &[][..];
    for attribute in Attributes::new(value) {
        match attribute? {
            (libc::IFLA_INFO_KIND, value) => interface.kind = Some(text(value)),
            (libc::IFLA_INFO_DATA, value) => data = value,
            _ => {}
        }
    }
    if let Some(kind) = &interface.kind {
        interface.details = Details::decode(kind, data)?;
    }
    Ok(())
}

fn alternative_names(value: &[u8]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for attribute in Attributes::new(value) {
        if let (libc::IFLA_ALT_IFNAME, value) = attribute? {
            names.push(text(value));
        }
    }
    Ok(names)
}

fn xdp(value: &[u8]) -> Result<Vec<AttachedXdp>, Failure> {
    let mut programs = Vec::new();
    for attribute in Attributes::new(value) {
        let (kind, value) = attribute?;
        if let Some((_, mode)) = XDP_MODES.into_iter().find(|(number, _)| *number == kind) {
            programs
                .push(AttachedXdp { mode, program_id: whole_number(value, "the number of an XDP program")? });
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute;

    /// `struct ifinfomsg` of interface 7, of type Ethernet, which is up.
    const HEADER: [u8; 16] = {
        let mut header = [0; 16];
        (header[2], header[4], header[8]) = (1, 7, libc::IFF_UP as u8);
        header
    };
    const NESTED: u16 = libc::NLA_F_NESTED as u16;

    fn body(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = HEADER.to_vec();
        attributes.iter().for_each(|(kind, value)| body.extend(attribute(*kind, value)));
        body
    }

    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect()
    }

    /// An interface with all decoded attributes, and with an alias that is not text.
    fn everything() -> Vec<u8> {
        let tun = nested(&[(3, &[1]), (4, &[1])]);
        body(&[
            (libc::IFLA_IFNAME, b"B\xfcro\0"),
            (libc::IFLA_IFALIAS, &[0xff; 255]),
            (libc::IFLA_MTU, &1400_u32.to_ne_bytes()),
            (libc::IFLA_MASTER, &3_u32.to_ne_bytes()),
            (libc::IFLA_LINK, &4_u32.to_ne_bytes()),
            (libc::IFLA_LINK_NETNSID, &(-1_i32).to_ne_bytes()),
            (
                libc::IFLA_LINKINFO | NESTED,
                &nested(&[(libc::IFLA_INFO_KIND, b"tun\0"), (libc::IFLA_INFO_DATA | NESTED, &tun)]),
            ),
            (
                libc::IFLA_PROP_LIST | NESTED,
                &nested(&[(libc::IFLA_ALT_IFNAME, b"one\0"), (libc::IFLA_ALT_IFNAME, b"tw\xf6\0")]),
            ),
            (
                libc::IFLA_XDP | NESTED,
                &nested(&[(2, &[4]), (5, &50_u32.to_ne_bytes()), (6, &60_u32.to_ne_bytes())]),
            ),
        ])
    }

    #[test]
    fn each_attribute_is_decoded_by_itself() {
        let expected = Interface {
            index: 7,
            name: r"B\xfcro".to_owned(),
            mtu: 1400,
            hardware_type: 1,
            kind: Some("tun".to_owned()),
            loopback: false,
            up: true,
            controller: Some(3),
            lower: Some(4),
            link_namespace: Some(-1),
            details: Details::Tun { ethernet: Some(false), packet_information: true },
            alternative_names: vec!["one".to_owned(), r"tw\xf6".to_owned()],
            xdp: vec![
                AttachedXdp { mode: XdpMode::Native, program_id: 50 },
                AttachedXdp { mode: XdpMode::Generic, program_id: 60 },
            ],
        };
        assert_eq!(interface(&everything()).unwrap(), expected);
    }

    #[test]
    fn a_message_that_is_cut_anywhere_never_panics_nor_yields_an_interface_without_a_name() {
        let whole = everything();
        let mut failures = 0;
        for length in 0..whole.len() {
            match interface(&whole[..length]) {
                Ok(interface) => assert_eq!(interface.name, r"B\xfcro", "cut to {length}"),
                Err(_) => failures += 1,
            }
        }
        // All cuts fail, except those between attributes, or in the padding of one.
        assert!(failures > whole.len() - 30, "{failures} of {}", whole.len());
    }

    #[test]
    fn what_matters_is_malformed_by_name_and_what_does_not_may_be_anything() {
        let said = |attributes: &[(u16, &[u8])]| {
            let named = [&[(libc::IFLA_IFNAME, &b"eth0\0"[..])], attributes].concat();
            interface(&body(&named)).map(|interface| interface.name).map_err(|failure| failure.to_string())
        };
        let xdp = nested(&[(5, &[1, 2])]);
        for (attribute, what) in [
            ((libc::IFLA_XDP, &xdp[..]), "interface 7: netlink: the number of an XDP program"),
            ((libc::IFLA_XDP, &[9, 0, 5, 0, 1]), "interface 7: netlink: an attribute is cut off"),
            ((libc::IFLA_MTU, &[1]), "interface 7: netlink: the MTU is 1 byte long"),
            ((libc::IFLA_PROP_LIST, &[1]), "interface 7: netlink: an attribute is cut off"),
        ] {
            let said = said(&[attribute]).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
        for attribute in [
            (libc::IFLA_IFALIAS, &b"B\xfcro\0"[..]),
            (libc::IFLA_IFALIAS, b""),
            (libc::IFLA_QDISC, b"\xff\xfe"),
            (libc::IFLA_STATS64, &[1]),
            (libc::IFLA_AF_SPEC, &[0xff; 7]),
            (999, &[0; 300]),
        ] {
            assert_eq!(said(&[attribute]).as_deref(), Ok("eth0"), "{attribute:?}");
        }
        for nameless in [body(&[]), body(&[(libc::IFLA_IFNAME, b"")]), body(&[(libc::IFLA_IFNAME, b"\0")])] {
            assert!(
                interface(&nameless)
                    .unwrap_err()
                    .to_string()
                    .contains("interface 7: netlink: it has no name")
            );
        }
    }

    #[test]
    fn addresses_are_decoded_or_named() {
        let message = |family: i32, attributes: &[(u16, &[u8])]| {
            let mut body = vec![family as u8, 24, 0, 0];
            body.extend(7_u32.to_ne_bytes());
            attributes.iter().for_each(|(kind, value)| body.extend(attribute(*kind, value)));
            body
        };
        let whole = message(
            libc::AF_INET,
            &[(libc::IFA_ADDRESS, &[192, 0, 2, 1]), (libc::IFA_LOCAL, &[192, 0, 2, 2]), (3, b"\xff\0")],
        );
        let expected = AddressMessage {
            interface: 7,
            prefix_length: 24,
            address: Some([192, 0, 2, 1].into()),
            local: Some([192, 0, 2, 2].into()),
        };
        assert_eq!(address(&whole).unwrap(), Some(expected));
        for length in 0..whole.len() {
            // It never panics, and never yields a message without an address.
            if let Ok(cut) = address(&whole[..length]) {
                assert!(cut.unwrap().address.is_some(), "cut to {length}");
            }
        }
        // Of another family, whose addresses may be of any length.
        assert_eq!(address(&message(libc::AF_PHONET, &[(libc::IFA_LOCAL, &[1])])).unwrap(), None);
        for odd in [&[(libc::IFA_ADDRESS, &[1, 2, 3][..])][..], &[(libc::IFA_LOCAL, &[0; 16])], &[]] {
            let said = address(&message(libc::AF_INET, odd)).unwrap_err().to_string();
            assert!(said.contains("an address of interface 7"), "{said}");
        }
    }
}
