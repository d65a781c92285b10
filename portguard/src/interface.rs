//! Network interfaces, as netlink tells of them: sysfs shows those of another network namespace to a process that has
//! changed its own.

use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_core::Nla as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, Prop,
};

use crate::error::{Error, Kind, Result};

/// What portguard needs to know about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Unique in the network namespace for as long as the interface exists.
    pub index: u32,
    /// Unique, but may change.
    pub name: String,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
    pub hardware_type: u16,
    /// `veth`, `bridge`, `tun`, ...; none for a card.
    pub kind: Option<String>,
    /// Whether this is the loopback interface.
    pub loopback: bool,
    /// Whether it has been brought up.
    pub up: bool,
    /// The bridge, bond or VRF that it is a port of, by index.
    pub controller: Option<u32>,
    /// The interface that it sits on, by index; the other end, if it is a cable. Either may be in another namespace.
    pub lower: Option<u32>,
    /// Whether its packets come with packet information of their own (a tun device without `IFF_NO_PI`).
    pub packet_information: bool,
    /// Other names, by which it can be called as well.
    pub alternative_names: Vec<String>,
    /// The XDP programs on it, whoever attached them: at most one of each mode.
    pub xdp: Vec<AttachedXdp>,
}

impl Interface {
    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedXdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// Its number.
    pub program_id: u32,
}

/// Where an XDP program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// On the card.
    Offload,
}

impl XdpMode {
    /// The word for it, in output of every format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
        }
    }
}

/// The interfaces of this network namespace, by index.
pub fn all() -> Result<Vec<Interface>> {
    let mut interfaces = query()
        .map_err(|error| Error::failed("cannot ask the kernel for the network interfaces").because(error))?;
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// The interface of this network namespace with a name.
pub fn by_name(name: &str) -> Result<Interface> {
    let interfaces = all()?;
    let names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let known = names.join(", ");
    interfaces.iter().find(|interface| interface.is_called(name)).cloned().ok_or_else(|| {
        let odd = name.is_empty() || name.contains(char::is_control);
        let name = if odd { format!("{name:?}") } else { name.to_owned() };
        Error::new(Kind::NotThere, format!("{name}: no such interface"))
            .remedy(format!("There are: {known}."))
    })
}

/// A network that an interface is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The name of the interface.
    pub interface: String,
    /// The network.
    pub network: IpNet,
}

impl Network {
    /// Whether it goes no further than the link (RFC 3927, RFC 4291).
    pub fn is_link_local(&self) -> bool {
        match self.network {
            IpNet::V4(network) => network.addr().is_link_local(),
            IpNet::V6(network) => network.addr().is_unicast_link_local(),
        }
    }
}

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The interface that it is on.
    pub interface: Interface,
}

/// The addresses of the interfaces of this network namespace.
pub fn addresses() -> Result<Vec<Address>> {
    let interfaces = all()?;
    let messages = query_addresses()
        .map_err(|error| Error::failed("cannot ask the kernel for the addresses").because(error))?;
    let address = |message: AddressMessage| {
        let interface = interfaces.iter().find(|interface| interface.index == message.header.index)?;
        let (peer_or_own, own) = address_and_local(message);
        Some(Address { address: own.or(peer_or_own)?, interface: interface.clone() })
    };
    Ok(messages.into_iter().filter_map(address).collect())
}

/// Both that a message may hold: with a peer at the other end of the link, the first is the peer's.
fn address_and_local(message: AddressMessage) -> (Option<IpAddr>, Option<IpAddr>) {
    let (mut address, mut local) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(it) => address = Some(it),
            AddressAttribute::Local(it) => local = Some(it),
            _ => {}
        }
    }
    (address, local)
}

/// The networks of the interfaces of this network namespace, but for the loopback interface. An address of this host that
/// is a network of its own is none.
pub fn networks() -> Result<Vec<Network>> {
    let interfaces = all()?;
    let addresses = query_addresses()
        .map_err(|error| Error::failed("cannot ask the kernel for the networks").because(error))?;
    let network = |message: AddressMessage| {
        let interface = interfaces.iter().find(|interface| interface.index == message.header.index)?;
        let length = message.header.prefix_len;
        let (address, local) = address_and_local(message);
        let address = address.or(local)?;
        let network = IpNet::new(address, length).ok()?;
        let own = network.prefix_len() == network.max_prefix_len() && local.unwrap_or(address) == address;
        (!interface.loopback && !own)
            .then(|| Network { interface: interface.name.clone(), network: network.trunc() })
    };
    Ok(addresses.into_iter().filter_map(network).collect())
}

#[tokio::main(flavor = "current_thread")]
async fn query_addresses() -> Result<Vec<AddressMessage>, Box<dyn std::error::Error>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle.address().get().execute().try_collect().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn query() -> Result<Vec<Interface>, Box<dyn std::error::Error>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    Ok(messages.into_iter().map(Interface::from).collect())
}

impl From<LinkMessage> for Interface {
    fn from(message: LinkMessage) -> Self {
        let mut interface = Self {
            index: message.header.index,
            name: String::new(),
            mtu: 0,
            hardware_type: message.header.link_layer_type.into(),
            kind: None,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            up: message.header.flags.contains(LinkFlags::Up),
            controller: None,
            lower: None,
            packet_information: false,
            alternative_names: Vec::new(),
            xdp: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Controller(index) => interface.controller = Some(index),
                LinkAttribute::Link(index) => interface.lower = Some(index),
                LinkAttribute::LinkInfo(infos) => {
                    interface.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind_name(kind)),
                        _ => None,
                    });
                    interface.packet_information = infos.iter().any(has_packet_information);
                }
                LinkAttribute::PropList(properties) => {
                    interface.alternative_names = properties
                        .into_iter()
                        .filter_map(|property| match property {
                            Prop::AltIfName(name) => Some(name),
                            _ => None,
                        })
                        .collect();
                }
                LinkAttribute::Xdp(xdp) => interface.xdp = xdp.iter().filter_map(attached).collect(),
                _ => {}
            }
        }
        interface
    }
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn has_packet_information(info: &LinkInfo) -> bool {
    /// `include/uapi/linux/if_link.h`; holds a byte.
    const IFLA_TUN_PI: u16 = 4;
    let LinkInfo::Data(InfoData::Tun(attributes)) = info else { return false };
    attributes.iter().any(|attribute| {
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        attribute.kind() == IFLA_TUN_PI && value.iter().any(|byte| *byte != 0)
    })
}

/// The kernel names the program of each mode, whether there is one or several (`rtnl_xdp_fill`).
fn attached(attribute: &LinkXdp) -> Option<AttachedXdp> {
    let (mode, program_id) = match attribute {
        LinkXdp::DrvProgId(id) => (XdpMode::Native, *id),
        LinkXdp::SkbProgId(id) => (XdpMode::Generic, *id),
        LinkXdp::HwProgId(id) => (XdpMode::Offload, *id),
        _ => return None,
    };
    Some(AttachedXdp { mode, program_id })
}
