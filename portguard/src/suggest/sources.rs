//! What the files, the interfaces and the guards tell, as findings. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::client::Client;
use super::files::{Files, Named};
use super::mounts::Server;
use super::names::Addresses;
use super::proposal::{Finding, LeftOut, Origin, Proposal, Proposed};
use crate::allowlist::oddity;
use crate::interface::Network;
use crate::printable::counted;

/// How many unproven sources are named.
const NAMED_PEERS: usize = 20;

/// A source that a guard in audit mode has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The guarded interface.
    pub interface: String,
    /// How many packets of TCP came from it.
    pub tcp_packets: u64,
    /// Whether it has asked over a connection, which proves its address: this host's stack has completed the handshake. A
    /// packet alone proves nothing, for its source can be forged.
    pub connected: bool,
}

/// The names in the files, which are to be looked up.
pub fn names(files: &Files) -> Vec<String> {
    let exports =
        files.exports.iter().flat_map(|(_, exports)| exports).filter_map(|export| match &export.client {
            Client::Host(name) => Some(name.clone()),
            _ => None,
        });
    let statd = files.statd.iter().filter_map(|path| match watched(path) {
        Client::Host(name) => Some(name),
        _ => None,
    });
    let named = files.named.iter().filter_map(|named| match &named.client {
        Client::Host(name) => Some(name.clone()),
        _ => None,
    });
    exports.chain(statd).chain(named).collect()
}

/// Puts together what is known.
///
/// `connected` are the peers of TCP connections to port 111, which the stack of this host has set up: their addresses are
/// proven. `peers` are the sources of packets, of which those with a connection are.
pub fn proposal(
    files: &Files,
    networks: &[Network],
    connected: &[IpAddr],
    peers: &[Peer],
    addresses: &Addresses,
) -> Proposal {
    let mut collection = Collection { addresses, findings: Vec::new(), left_out: Vec::new() };
    for (path, exports) in &files.exports {
        for export in exports {
            let place = format!("{}, line {}", path.display(), export.line);
            let detail = format!("for {}", export.path);
            collection.client(&export.client, &export.written, &place, Some(&detail));
        }
    }
    for Network { interface, network } in networks {
        collection.findings.push(Finding {
            prefix: *network,
            origin: format!("the network of {interface}"),
            detail: is_public(*network).then(|| "public addresses: are they all yours?".to_owned()),
        });
    }
    for address in &files.nfsd {
        collection.findings.push(Finding {
            prefix: (*address).into(),
            origin: "connected to the NFS server".to_owned(),
            detail: None,
        });
    }
    for path in &files.statd {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("watched by statd, {}", path.display());
        collection.client(&watched(path), &name, &place, None);
    }
    for Named { client, written, place, detail } in &files.named {
        collection.client(client, written, place, detail.as_deref());
    }
    let proven = |address: IpAddr, origin: String| Finding { prefix: address.into(), origin, detail: None };
    let served = files.served.iter().map(|it| proven(*it, "the NFS server serves it".to_owned()));
    collection.findings.extend(served);
    let servers = files.servers.iter().map(|Server { address, mounted_on }| {
        proven(*address, format!("an NFSv3 server of this host, which calls back, mounted on {mounted_on}"))
    });
    collection.findings.extend(servers);
    collection.findings.extend(connected.iter().map(|it| proven(*it, "connected to port 111".to_owned())));
    let asked = peers.iter().filter(|peer| peer.connected);
    collection.findings.extend(asked.map(|Peer { address, interface, .. }| {
        proven(*address, format!("asked over a TCP connection on {interface}, seen in audit mode"))
    }));
    let mut proposal = Proposal::of(collection.findings, collection.left_out);
    add_unproven(&mut proposal, peers);
    proposal
}

/// The links of IPv6 whose hosts are left out: only broadcasts come from such addresses.
pub fn left_out_links(networks: &[Network]) -> Option<LeftOut> {
    let links: Vec<&Network> = networks.iter().filter(|it| it.network.addr().is_ipv6()).collect();
    let mut interfaces: Vec<&str> = links.iter().map(|it| &*it.interface).collect();
    interfaces.dedup();
    Some(LeftOut {
        what: links.first()?.network.to_string(),
        origin: format!("the network of {}", interfaces.join(", ")),
        why: "hosts of a link ask from link-local addresses only if they broadcast over IPv6 (NIS, rpcinfo -b): --link-local \
              proposes them"
            .to_owned(),
    })
}

/// Adds the sources of packets that nothing else has proposed.
fn add_unproven(proposal: &mut Proposal, peers: &[Peer]) {
    let is_known = |peer: &&Peer| {
        let prefix = IpNet::from(peer.address);
        oddity(prefix).is_some() || proposal.entries.iter().any(|entry| entry.prefix.contains(&prefix))
    };
    let mut peers: Vec<&Peer> = peers.iter().filter(|peer| !peer.connected && !is_known(peer)).collect();
    peers.sort_by_key(|peer| (Reverse(peer.tcp_packets), peer.address));
    proposal.unproven_more = peers.len().saturating_sub(NAMED_PEERS);
    let proposed = |Peer { address, interface, tcp_packets, .. }: &Peer| {
        let origin = format!("sent requests over TCP on {interface}, which is in audit mode");
        let detail = Some(counted(*tcp_packets, "packet"));
        Proposed { prefix: (*address).into(), origins: vec![Origin { origin, detail, covers: Vec::new() }] }
    };
    proposal.unproven = peers.into_iter().take(NAMED_PEERS).map(proposed).collect();
}

/// The host that a file of statd is called.
fn watched(path: &std::path::Path) -> Client {
    Client::parse(&path.file_name().unwrap_or_default().to_string_lossy())
}

struct Collection<'a> {
    addresses: &'a Addresses,
    findings: Vec<Finding>,
    left_out: Vec<LeftOut>,
}

impl Collection<'_> {
    fn client(&mut self, client: &Client, written: &str, place: &str, detail: Option<&str>) {
        let detail = detail.map(str::to_owned);
        let leave_out = |why: &str| LeftOut {
            what: if written.is_empty() { "everyone".to_owned() } else { written.to_owned() },
            origin: [Some(place.to_owned()), detail.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            why: why.to_owned(),
        };
        match client {
            Client::Network(prefix) => {
                self.findings.push(Finding { prefix: *prefix, origin: place.to_owned(), detail });
            }
            Client::Host(name) => match self.addresses.get(name) {
                Some(Ok(addresses)) => self.findings.extend(addresses.iter().map(|address| Finding {
                    prefix: (*address).into(),
                    origin: format!("{name}, {place}"),
                    detail: detail.clone(),
                })),
                Some(Err(why)) => self.left_out.push(leave_out(why)),
                None => self.left_out.push(leave_out("it was not looked up")),
            },
            other => self.left_out.push(leave_out(other.inexpressible().unwrap_or("it is not understood"))),
        }
    }
}

/// Whether addresses are of the internet: neither private (RFC 1918, 6598, 4193) nor of a link.
pub(super) fn is_public(network: IpNet) -> bool {
    match network {
        IpNet::V4(network) => {
            let address = network.addr();
            let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            !(address.is_private() || address.is_link_local() || shared)
        }
        IpNet::V6(network) => {
            let address = network.addr();
            !(address.is_unique_local() || address.is_unicast_link_local())
        }
    }
}
