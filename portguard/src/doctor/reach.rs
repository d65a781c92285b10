//! Whether strangers get an answer from port 111 over an interface that no guard covers: who listens there, and what else
//! stands in the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use nix::libc;
use nix::sys::socket::SockProtocol;
use portguard_common::PORT;
use portguard_common::transport::Protocol;

use super::firewall::{Firewall, Passage, Stranger};
use super::guards::{Guarded, Guards};
use super::units::Units;
use super::{facts, routes};
use crate::interface::{Address, Interface};
use crate::netlink::{self, Attributes, Failure, malformed, u32_at};
use crate::sockets::{Socket, Sockets};

/// `SOCK_DIAG_BY_FAMILY`, of requests and replies.
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2`.
const REQUEST_LEN: usize = 56;
/// In `struct inet_diag_msg`: the interface that a socket is bound to, and its inode.
const BOUND_AT: usize = 40;
const INODE_AT: usize = 68;
const MESSAGE_LEN: usize = 72;
/// `INET_DIAG_CGROUP_ID`, Linux 5.9 and later.
const GROUP: u16 = 21;
/// A setting of routing, by which packets of a source that would be reached otherwise are dropped.
const STRICT: u32 = 1;

/// The most addresses of this host that a firewall is asked about one by one.
const MOST_DESTINATIONS: usize = 64;

/// Whether a stranger gets an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nobody listens there, in these words.
    Closed(&'static str),
    /// In these words.
    Open(String),
    /// What keeps it off.
    Blocked(String),
    /// Why it cannot be told.
    Unclear(String),
}

/// What decides about it.
#[derive(Debug)]
pub(super) struct Exposure<'a> {
    all: &'a [Interface],
    addresses: &'a [Address],
    sockets: Vec<Listener>,
    firewall: Firewall,
    units: Units,
    /// The interfaces with filters behind XDP, and those with somebody else's XDP program.
    filtered: BTreeSet<u32>,
    foreign: BTreeSet<u32>,
    /// The interfaces to which routes of IPv4 lead.
    routed: BTreeSet<u32>,
}

/// A protocol, and whether it is over IPv6.
type Way = (Protocol, bool);

fn ways() -> impl Iterator<Item = Way> {
    Protocol::ALL.into_iter().flat_map(|protocol| [(protocol, false), (protocol, true)])
}

/// A socket of port 111.
#[derive(Debug, Clone, Copy)]
struct Listener {
    protocol: Protocol,
    ipv6: bool,
    /// The address for which it takes packets; any, if it is unspecified.
    local: IpAddr,
    /// The interface, by index, to which it is bound: 0 for none, `None` if that is not known.
    bound: Option<u32>,
    /// The control group in which it was made, by inode number.
    group: Option<u64>,
}

impl<'a> Exposure<'a> {
    pub(super) fn gather(
        all: &'a [Interface],
        addresses: &'a [Address],
        sockets: &Sockets,
        guards: &Guards,
        filtered: BTreeSet<u32>,
    ) -> Self {
        let exposed: Vec<Socket> =
            sockets.of_rpcbind().filter(|socket| socket.is_exposed()).copied().collect();
        let is_foreign =
            |it: &&Interface| !it.xdp.is_empty() && matches!(guards.on(it), Guarded::No | Guarded::Unknown);
        let foreign = all.iter().filter(is_foreign).map(|it| it.index).collect();
        // Nothing else is asked where nobody listens.
        let listeners = listeners(&exposed);
        let (firewall, units) = match exposed.is_empty() {
            true => (Firewall::default(), Units::default()),
            false => {
                (Firewall::read(), Units::read(&listeners.iter().map(|it| it.group).collect::<Vec<_>>()))
            }
        };
        // Without the list, any interface may be among them.
        let routed = routed().unwrap_or_else(|_| all.iter().map(|it| it.index).collect());
        Self { all, addresses, sockets: listeners, firewall, units, filtered, foreign, routed }
    }

    /// For packets that arrive on an interface; `lowers` are those below it.
    pub(super) fn of(&self, interface: &Interface, lowers: &[&Interface]) -> Reach {
        let gets = |it: &Listener| self.is_delivered(interface, it) != Some(false);
        let delivers = |way: &Way| self.listeners_of(*way).any(gets);
        let passages: Vec<(Way, Passage)> =
            ways().filter(delivers).map(|way| (way, self.passage(interface, lowers, way))).collect();
        let open: Vec<String> =
            passages.iter().filter(|(_, it)| *it == Passage::Open).map(|(way, _)| words(*way)).collect();
        if let Some((_, Passage::Unclear(why))) =
            passages.iter().find(|(_, it)| matches!(it, Passage::Unclear(_)))
            && open.is_empty()
        {
            return Reach::Unclear(why.clone());
        }
        match (passages.first(), open.len()) {
            (None, _) if self.sockets.is_empty() => Reach::Closed("no process listens on port 111 now"),
            (None, _) => Reach::Closed("no process that listens on port 111 gets packets from it"),
            (_, count) if count == passages.len() => {
                Reach::Open("port 111 is open to every host that can reach it".to_owned())
            }
            (Some((_, Passage::Blocked(by))), 0) => Reach::Blocked(by.clone()),
            _ => Reach::Open(format!("port 111 is open over {}", open.join(" and "))),
        }
    }

    /// Whether a firewall keeps strangers off a socket of another port, whatever interface they come in on.
    pub(super) fn is_blocked(&self, socket: &Socket) -> bool {
        let way = (socket.protocol, socket.local.is_ipv6());
        let mut outside = self.all.iter().filter(|it| it.up && !it.loopback);
        let passage = |it| self.of_firewall(it, &[], way, socket.local.port(), &[socket.local.ip()]);
        outside.all(|it| matches!(passage(it), Passage::Blocked(_)))
    }

    fn passage(&self, interface: &Interface, lowers: &[&Interface], (protocol, ipv6): Way) -> Passage {
        let gets = |it: &&Listener| self.is_delivered(interface, it) != Some(false);
        let locals: Vec<IpAddr> =
            self.listeners_of((protocol, ipv6)).filter(gets).map(|it| it.local).collect();
        let passage = self.of_firewall(interface, lowers, (protocol, ipv6), PORT, &locals);
        let passage = match self.of_units(interface, (protocol, ipv6)) {
            blocked @ Passage::Blocked(_) => blocked,
            _ if matches!(passage, Passage::Blocked(_)) => passage,
            Passage::Open => passage,
            unclear => unclear,
        };
        if matches!(passage, Passage::Blocked(_)) {
            return passage;
        }
        let gets = |it: &Listener| self.is_delivered(interface, it) == Some(true);
        if !self.listeners_of((protocol, ipv6)).any(gets) {
            return Passage::Unclear(
                "the kernel does not tell to which VRF the sockets belong (udp_diag)".to_owned(),
            );
        }
        let unclear = |why: &str, it: &Interface| Passage::Unclear(format!("{} has {why}", it.name));
        for it in std::iter::once(&interface).chain(lowers) {
            if self.foreign.contains(&it.index) {
                return unclear("an XDP program that is not known to be a guard", it);
            }
            if self.filtered.contains(&it.index) {
                return unclear("filters for arriving packets (tc)", it);
            }
        }
        passage
    }

    /// What the rules of a firewall do with a packet for sockets with these addresses.
    fn of_firewall(
        &self,
        interface: &Interface,
        lowers: &[&Interface],
        (protocol, ipv6): Way,
        port: u16,
        locals: &[IpAddr],
    ) -> Passage {
        // An address of the link belongs to its interface alone.
        let is_reachable = |it: &&Address| {
            let of_link = matches!(it.address, IpAddr::V6(address) if address.is_unicast_link_local());
            it.address.is_ipv6() == ipv6
                && !it.address.is_loopback()
                && (!of_link || it.interface.index == interface.index)
                && locals.iter().any(|local| local.is_unspecified() || *local == it.address)
        };
        let destinations: Vec<IpAddr> =
            self.addresses.iter().filter(is_reachable).map(|it| it.address).collect();
        // One that is let through is enough for an answer. Hosts have few; if not, all are judged at once.
        let size = if destinations.len() > MOST_DESTINATIONS { destinations.len() } else { 1 };
        // Rules see the packets of a port of a VRF twice: as they came, and as of the VRF.
        let name = self.vrf(interface).is_none().then_some(&*interface.name);
        let names: Vec<&str> = lowers.iter().map(|it| &*it.name).collect();
        let is_bridge = interface.kind.as_deref() == Some("bridge");
        let passage = |destinations: &[IpAddr]| {
            let stranger = Stranger { interface: name, protocol, ipv6, port, destinations };
            self.firewall.passage(&stranger, &names, is_bridge)
        };
        match destinations.is_empty() {
            true => passage(&[]),
            false => Passage::widest(destinations.chunks(size).map(passage)),
        }
    }

    /// What becomes of a packet at the units of the sockets that get it: one that lets it through is enough for an answer.
    fn of_units(&self, interface: &Interface, way: Way) -> Passage {
        let gets = |it: &&Listener| self.is_delivered(interface, it) == Some(true);
        let listeners = self.listeners_of(way).filter(gets);
        Passage::widest(listeners.map(|it| self.units.passage(it.group, it.ipv6)))
    }

    /// The VRF that an interface is, or is a port of.
    fn vrf(&self, interface: &Interface) -> Option<u32> {
        let is_vrf = |it: &&Interface| it.kind.as_deref() == Some("vrf");
        let controller = self.all.iter().find(|it| Some(it.index) == interface.controller);
        std::iter::once(interface).chain(controller).find(is_vrf).map(|vrf| vrf.index)
    }

    fn listeners_of(&self, (protocol, ipv6): Way) -> impl Iterator<Item = &Listener> {
        self.sockets.iter().filter(move |it| it.protocol == protocol && it.ipv6 == ipv6)
    }

    /// Whether a socket gets what arrives on an interface for one of this host's addresses; `None`: it is not known.
    fn is_delivered(&self, interface: &Interface, listener: &Listener) -> Option<bool> {
        if self.is_refused_by_routing(interface, listener.ipv6) {
            return Some(false);
        }
        match (listener.bound, self.vrf(interface)) {
            // Sockets that are bound to nothing belong to no VRF, unless they belong to all (`inet_bound_dev_eq`).
            (Some(0), Some(_)) => Some(accepts_all_vrfs(listener.protocol)),
            (Some(0) | None, None) => Some(true),
            (Some(bound), vrf) => Some(bound == interface.index || Some(bound) == vrf),
            (None, Some(_)) => accepts_all_vrfs(listener.protocol).then_some(true),
        }
    }

    /// Whether routing lets nothing in on an interface.
    fn is_refused_by_routing(&self, interface: &Interface, ipv6: bool) -> bool {
        if ipv6 {
            return facts::setting("ipv6", &interface.name, "disable_ipv6").0 != 0;
        }
        let (own, all) = facts::setting("ipv4", &interface.name, "rp_filter");
        // Without a route over it, Linux accepts no source there (`__fib_validate_source`).
        own.max(all) == STRICT && !self.routed.contains(&interface.index)
    }
}

/// The interfaces to which routes of IPv4 lead, in any table, by index.
fn routed() -> Result<BTreeSet<u32>, Failure> {
    let mut routed = BTreeSet::new();
    for route in routes::attributes(libc::AF_INET)? {
        for attribute in Attributes::new(&route) {
            match attribute? {
                (libc::RTA_OIF, value) => routed.extend(u32_at(value, 0)),
                (libc::RTA_MULTIPATH, hops) => {
                    routed.extend(routes::next_hops(hops)?.into_iter().map(|(interface, _)| interface));
                }
                _ => {}
            }
        }
    }
    Ok(routed)
}

fn words((protocol, ipv6): Way) -> String {
    format!("{} ({})", protocol.name(), if ipv6 { "IPv6" } else { "IPv4" })
}

fn accepts_all_vrfs(protocol: Protocol) -> bool {
    let name = match protocol {
        Protocol::Udp => "udp_l3mdev_accept",
        Protocol::Tcp => "tcp_l3mdev_accept",
    };
    // A kernel without VRFs has no such file.
    !matches!(facts::number(format!("/proc/sys/net/ipv4/{name}")), Ok(Some(0)))
}

/// The sockets, with the interfaces that they are bound to.
fn listeners(sockets: &[Socket]) -> Vec<Listener> {
    let mut known = BTreeMap::new();
    for (protocol, ipv6) in ways() {
        // Without an answer it is not known.
        if let Ok(more) = details(protocol, ipv6) {
            known.extend(more);
        }
    }
    let listener = |socket: &Socket| Listener {
        protocol: socket.protocol,
        ipv6: socket.local.is_ipv6(),
        local: socket.local.ip(),
        bound: known.get(&socket.inode).map(|(bound, _)| *bound),
        group: known.get(&socket.inode).and_then(|(_, group)| *group),
    };
    let mut listeners: Vec<Listener> = sockets.iter().map(listener).collect();
    // One of IPv6 may take IPv4 as well, if that has none of its own.
    for protocol in Protocol::ALL {
        let of = |ipv6: bool| move |it: &&Socket| it.protocol == protocol && it.local.is_ipv6() == ipv6;
        let any = sockets.iter().filter(of(true)).find(|it| it.local.ip().is_unspecified());
        if let (Some(any), None) = (any, sockets.iter().find(of(false))) {
            listeners.push(Listener { ipv6: false, local: Ipv4Addr::UNSPECIFIED.into(), ..listener(any) });
        }
    }
    listeners
}

/// The interfaces to which sockets of port 111 are bound, and their control groups, by the inode of the socket
/// (sock_diag(7)).
fn details(protocol: Protocol, ipv6: bool) -> Result<BTreeMap<u64, (u32, Option<u64>)>, Failure> {
    let mut request = vec![0; REQUEST_LEN];
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let number = match protocol {
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Tcp => libc::IPPROTO_TCP,
    };
    request.splice(..2, [family as u8, number as u8]);
    // In any state.
    request.splice(4..8, u32::MAX.to_ne_bytes());
    let sockets = netlink::dump(SockProtocol::NetlinkSockDiag, BY_FAMILY, &request, BY_FAMILY)?;
    let mut known = BTreeMap::new();
    for socket in &sockets {
        let cut_off = || malformed("the message of a socket is cut off");
        let port = socket.get(4..6).ok_or_else(cut_off)?;
        if port == PORT.to_be_bytes() {
            let inode = u32_at(socket, INODE_AT).ok_or_else(cut_off)?;
            let bound = u32_at(socket, BOUND_AT).ok_or_else(cut_off)?;
            known.insert(inode.into(), (bound, group_of(socket)?));
        }
    }
    Ok(known)
}

fn group_of(socket: &[u8]) -> Result<Option<u64>, Failure> {
    for attribute in Attributes::new(socket.get(MESSAGE_LEN..).unwrap_or_default()) {
        if let (GROUP, value) = attribute? {
            return Ok(value.first_chunk().map(|id| u64::from_ne_bytes(*id)));
        }
    }
    Ok(None)
}
