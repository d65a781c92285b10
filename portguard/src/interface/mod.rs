//! Network interfaces, as netlink tells of them: sysfs shows those of another network namespace to a process that has
//! changed its own.

mod decode;
mod details;
mod ethtool;
mod name;
mod sysfs;

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use nix::libc;
use nix::sys::socket::SockProtocol;
use portguard_common::listed;

use crate::error::{Error, Kind, Result};
use crate::netlink;

pub use self::details::{BondMode, Details};
pub(crate) use self::ethtool::Driver;
pub(crate) use self::name::unescape as name_bytes;

use self::decode::AddressMessage;

/// `struct ifinfomsg`.
const LINK_REQUEST_LEN: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_REQUEST_LEN: usize = 8;

/// What portguard needs to know about an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Unique in the network namespace for as long as the interface exists.
    pub index: u32,
    /// Unique, but may change. Bytes that are no printable text are written as `\xNN`.
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
    /// The network namespace of that interface, if it is not this one: the number that this one has for it, or -1.
    pub link_namespace: Option<i32>,
    /// What it tells of itself beyond its kind.
    pub details: Details,
    /// Other names, by which it can be called as well; written as the name is.
    pub alternative_names: Vec<String>,
    /// The XDP programs on it, whoever attached them: at most one of each mode.
    pub xdp: Vec<AttachedXdp>,
}

impl Interface {
    /// All its names.
    pub fn names(&self) -> Vec<&str> {
        [&self.name].into_iter().chain(&self.alternative_names).map(String::as_str).collect()
    }

    /// Whether this is one of its names. A user may write any byte of it as `\xNN`.
    pub fn is_called(&self, name: &str) -> bool {
        let name = name::escape(&name_bytes(name));
        self.name == name || self.alternative_names.contains(&name)
    }

    /// Whether its frames have the tags of a switch whose processor port it is connected to (a conduit of DSA).
    pub fn carries_switch_tags(&self) -> bool {
        sysfs::has(Path::new(sysfs::ROOT), self, "dsa")
    }

    /// Whether it gets packets from another one, so that the kernel attaches no program to that after one to this
    /// (`netdev_upper_dev_link`): it sits on that, or that is a port of it.
    pub fn is_above(&self, other: &Self) -> bool {
        const SIT_ON_ONE: [&str; 7] = ["dsa", "ipvlan", "ipvtap", "macsec", "macvlan", "macvtap", "vlan"];
        if other.controller == Some(self.index) {
            return true;
        }
        // One in another network namespace has an index of that namespace, and is not to be seen from here.
        if self.link_namespace.is_some() {
            return false;
        }
        let sits_on_one = self.kind.as_ref().is_some_and(|kind| SIT_ON_ONE.contains(&kind.as_str()));
        let Details::Above { lower } = self.details else {
            return sits_on_one && self.lower == Some(other.index);
        };
        lower.contains(&Some(other.index))
    }
}

/// The driver of virtual cards of Hyper-V. Another driver may bring their packets in, that of a virtual function, which comes
/// and goes, and need not take a program.
pub const HV_NETVSC: &str = "hv_netvsc";

/// Devices sit on one another, but not endlessly.
const DEEPEST: usize = 8;

/// Puts what is about interfaces, by their names, in the order in which programs can be attached to all of them: what is below
/// comes first, as the kernel attaches none below another. Names of nothing come last; else the order stays.
pub fn lowest_first<T>(items: &mut [T], all: &[Interface], name: impl Fn(&T) -> &str) {
    items.sort_by_cached_key(|item| {
        let interface = all.iter().find(|interface| interface.is_called(name(item)));
        interface.map_or(usize::MAX, |interface| height(interface, all))
    });
}

/// How many devices there are below one, in the longest line of them.
fn height(interface: &Interface, all: &[Interface]) -> usize {
    fn up_to(limit: usize, interface: &Interface, all: &[Interface]) -> usize {
        let below = all.iter().filter(|other| limit > 0 && interface.is_above(other));
        below.map(|other| 1 + up_to(limit - 1, other, all)).max().unwrap_or(0)
    }
    up_to(DEEPEST, interface, all)
}

#[cfg(test)]
impl Interface {
    /// A card that is up, for tests.
    pub(crate) fn example() -> Self {
        Self {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            hardware_type: 1,
            kind: None,
            loopback: false,
            up: true,
            controller: None,
            lower: None,
            link_namespace: None,
            details: Details::None,
            alternative_names: vec![],
            xdp: vec![],
        }
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

listed! {
    /// Where an XDP program runs.
    pub enum XdpMode {
        /// In the driver.
        Native = "native",
        /// In the network stack.
        Generic = "generic",
        /// On the card.
        Offload = "offload",
    }
}

/// The interfaces of this network namespace, by index.
pub fn all() -> Result<Vec<Interface>> {
    let failed = |failure| Error::failed("cannot list the network interfaces").caused_by(failure);
    let messages = dump(libc::RTM_GETLINK, LINK_REQUEST_LEN, libc::RTM_NEWLINK).map_err(failed)?;
    let mut interfaces: Vec<Interface> =
        messages.iter().map(|body| decode::interface(body)).collect::<Result<_, _>>().map_err(failed)?;
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
    let address = |(message, interface): (AddressMessage, &Interface)| {
        // With a peer at the other end of the link, the first is the peer's.
        Some(Address { address: message.local.or(message.address)?, interface: interface.clone() })
    };
    let (messages, interfaces) = addresses_and_interfaces()?;
    Ok(with_interfaces(messages, &interfaces).filter_map(address).collect())
}

/// The networks of the interfaces of this network namespace, but for the loopback interface. An address of this host that
/// is a network of its own is none.
pub fn networks() -> Result<Vec<Network>> {
    let network = |(message, interface): (AddressMessage, &Interface)| {
        let address = message.address.or(message.local)?;
        let network = IpNet::new(address, message.prefix_length).ok()?;
        let own =
            network.prefix_len() == network.max_prefix_len() && message.local.unwrap_or(address) == address;
        (!interface.loopback && !own)
            .then(|| Network { interface: interface.name.clone(), network: network.trunc() })
    };
    let (messages, interfaces) = addresses_and_interfaces()?;
    Ok(with_interfaces(messages, &interfaces).filter_map(network).collect())
}

/// The interfaces are listed last: an address whose interface is not among them went together with it.
fn addresses_and_interfaces() -> Result<(Vec<AddressMessage>, Vec<Interface>)> {
    let failed = |failure| Error::failed("cannot list the addresses of this host").caused_by(failure);
    let messages = dump(libc::RTM_GETADDR, ADDRESS_REQUEST_LEN, libc::RTM_NEWADDR).map_err(failed)?;
    let addresses: Vec<Option<AddressMessage>> =
        messages.iter().map(|body| decode::address(body)).collect::<Result<_, _>>().map_err(failed)?;
    Ok((addresses.into_iter().flatten().collect(), all()?))
}

fn with_interfaces(
    messages: Vec<AddressMessage>,
    interfaces: &[Interface],
) -> impl Iterator<Item = (AddressMessage, &Interface)> {
    messages.into_iter().filter_map(|message| {
        let interface = interfaces.iter().find(|interface| interface.index == message.interface)?;
        Some((message, interface))
    })
}

/// Asks for everything of a kind: a request that is all zeroes.
fn dump(request: u16, length: usize, reply: u16) -> Result<Vec<Vec<u8>>, netlink::Failure> {
    netlink::dump(SockProtocol::NetlinkRoute, request, &vec![0; length], reply)
}
