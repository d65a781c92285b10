//! Network interfaces, read by netlink. Sysfs would show the interfaces of another network namespace to a process that
//! has changed its own namespace.

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
pub(crate) use self::name::{escape as name_text, unescape as name_bytes};

use self::decode::AddressMessage;

/// `struct ifinfomsg`.
const LINK_REQUEST_LEN: usize = 16;
/// `struct ifaddrmsg`.
const ADDRESS_REQUEST_LEN: usize = 8;

/// An interface, with the properties that portguard needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Unique in the network namespace for as long as the interface exists.
    pub index: u32,
    /// Unique, but it may change. Bytes that are not printable text are written as `\xNN`.
    pub name: String,
    /// The largest packet that it sends, in bytes.
    pub mtu: u32,
    /// `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
    pub hardware_type: u16,
    /// `veth`, `bridge`, `tun`, ...; `None` for a network card.
    pub kind: Option<String>,
    /// Whether this is the loopback interface.
    pub loopback: bool,
    /// Whether it has been brought up.
    pub up: bool,
    /// The index of the bridge, bond or VRF of which it is a port.
    pub controller: Option<u32>,
    /// The index of the interface under it, or of its peer if it is a veth. That interface may be in another namespace.
    pub lower: Option<u32>,
    /// The network namespace of `lower`, if it is not this one: the number that this namespace has for it, or -1.
    pub link_namespace: Option<i32>,
    /// Its details beyond its kind.
    pub details: Details,
    /// Its alternative names, in the same form as `name`.
    pub alternative_names: Vec<String>,
    /// The XDP programs on it, of any owner: at most one of each mode.
    pub xdp: Vec<AttachedXdp>,
}

impl Interface {
    /// All its names.
    pub fn names(&self) -> Vec<&str> {
        [&self.name].into_iter().chain(&self.alternative_names).map(String::as_str).collect()
    }

    /// Whether `name` is one of its names. A user may write any byte of a name as `\xNN`.
    pub fn is_called(&self, name: &str) -> bool {
        let name = name::escape(&name_bytes(name));
        self.name == name || self.alternative_names.contains(&name)
    }

    /// Whether its frames have the tags of a switch: it is connected to the processor port of that switch (a conduit of
    /// DSA).
    pub fn carries_switch_tags(&self) -> bool {
        sysfs::has(Path::new(sysfs::ROOT), self, "dsa")
    }

    /// Whether this interface is on top of `other`, or `other` is a port of it (`netdev_upper_dev_link`). If this one
    /// has a program, the kernel then attaches none to `other`.
    pub fn is_above(&self, other: &Self) -> bool {
        const SIT_ON_ONE: [&str; 7] = ["dsa", "ipvlan", "ipvtap", "macsec", "macvlan", "macvtap", "vlan"];
        if other.controller == Some(self.index) {
            return true;
        }
        // A lower interface in another network namespace has an index of that namespace, and is not visible here.
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

/// The driver of virtual cards of Hyper-V. Their packets may arrive through a virtual function with another driver. The
/// virtual function can appear and disappear, and its driver may not accept a program.
pub const HV_NETVSC: &str = "hv_netvsc";

/// The deepest stack of devices that is counted.
const DEEPEST: usize = 8;

/// Sorts items with names of interfaces into the order in which programs can be attached to all of them: lower
/// interfaces first, because the kernel attaches no program below another one. Names without an interface come last.
/// The sort is stable.
pub fn lowest_first<T>(items: &mut [T], all: &[Interface], name: impl Fn(&T) -> &str) {
    items.sort_by_cached_key(|item| {
        let interface = all.iter().find(|interface| interface.is_called(name(item)));
        interface.map_or(usize::MAX, |interface| height(interface, all))
    });
}

/// The number of devices below an interface, on the longest path.
fn height(interface: &Interface, all: &[Interface]) -> usize {
    fn up_to(limit: usize, interface: &Interface, all: &[Interface]) -> usize {
        let below = all.iter().filter(|other| limit > 0 && interface.is_above(other));
        below.map(|other| 1 + up_to(limit - 1, other, all)).max().unwrap_or(0)
    }
    up_to(DEEPEST, interface, all)
}

#[cfg(test)]
impl Interface {
    /// A network card that is up, for tests.
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
    /// The mode in which it runs.
    pub mode: XdpMode,
    /// Its number.
    pub program_id: u32,
}

listed! {
    /// The mode in which an XDP program runs.
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
    interfaces.iter().find(|interface| interface.is_called(name)).cloned().ok_or_else(|| {
        let odd = name.is_empty() || name.contains(char::is_control);
        let shown = if odd { format!("{name:?}") } else { name.to_owned() };
        Error::new(Kind::NotThere, format!("{shown}: no such interface"))
            .remedy(format!("There are: {}.", nearest_first(name, &interfaces)))
    })
}

/// What to say when a service begins to wait for an interface: its name may be misspelt.
pub(crate) fn waiting_for(name: &str, interfaces: &[Interface]) -> String {
    let there = nearest_first(name, interfaces);
    format!("{name}: no such interface yet; waiting for it. Is the name right? There are: {there}.")
}

/// How many interfaces an error names.
const NAMED: usize = 10;

/// The names of interfaces, those first that are most like `name`.
fn nearest_first(name: &str, interfaces: &[Interface]) -> String {
    // `ip link` shows a veth as `eth0@if3`.
    let name = name.split('@').next().unwrap_or_default();
    let mut names: Vec<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    names.sort_by_key(|other| strsim::damerau_levenshtein(name, other));
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

/// A network of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The name of the interface.
    pub interface: String,
    /// The network.
    pub network: IpNet,
}

impl Network {
    /// Whether it is link-local (RFC 3927, RFC 4291).
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
    /// The interface with this address.
    pub interface: Interface,
}

/// The addresses of the interfaces of this network namespace.
pub fn addresses() -> Result<Vec<Address>> {
    let address = |(message, interface): (AddressMessage, &Interface)| {
        // On a point-to-point link, `message.address` is the address of the peer.
        Some(Address { address: message.local.or(message.address)?, interface: interface.clone() })
    };
    let (messages, interfaces) = addresses_and_interfaces()?;
    Ok(with_interfaces(messages, &interfaces).filter_map(address).collect())
}

/// The networks of the interfaces of this network namespace, without the loopback interface. An address of this host
/// with a prefix of full length does not count as a network.
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

/// Reads the addresses, and then the interfaces. If the interface of an address is missing, both have gone in the
/// meantime.
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

/// Requests all objects of a type: the body of the request is all zeroes.
fn dump(request: u16, length: usize, reply: u16) -> Result<Vec<Vec<u8>>, netlink::Failure> {
    netlink::dump(SockProtocol::NetlinkRoute, request, &vec![0; length], reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_nearest_interfaces_first_and_not_too_many() {
        let interface = |name: &str| Interface { name: name.to_owned(), ..Interface::example() };
        let few = ["lo", "ifb0", "eth1", "eth0"].map(interface);
        assert_eq!(nearest_first("eht0", &few), "eth0, eth1, ifb0, lo");
        assert_eq!(nearest_first("eth0@if3", &few), "eth0, eth1, ifb0, lo");
        let many: Vec<Interface> = (0..64).map(|number| interface(&format!("veth{number}"))).collect();
        let told = nearest_first("veth63", &many);
        assert!(told.starts_with("veth63, ") && told.ends_with(" and 54 more"), "{told}");
    }
}
