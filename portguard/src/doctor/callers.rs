//! Hosts that a guard keeps off and that may be wanted: the NFSv3 servers of this host, which call back, and hosts of a link
//! that ask by a broadcast of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use portguard_common::PORT;
use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Conditions;

use super::Finding;
use super::coverage::{DEEPEST, all_below};
use super::remedy::RemedyKind;
use crate::error::Result;
use crate::guard::{self, Guard};
use crate::interface::{self, Interface};
use crate::printable::{counted, quoted};
use crate::suggest::files::Files;
use crate::suggest::mounts::Server;

/// A server, and the interfaces on which its packets arrive, by index: that with this host's address, and those below.
#[derive(Debug)]
pub(super) struct Reached {
    server: Server,
    interfaces: Vec<u32>,
}

/// The NFSv3 servers of this host.
pub(super) fn servers(all: &[Interface]) -> Result<Vec<Reached>> {
    let servers = Files::read_servers(Path::new("/"));
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let addresses = interface::addresses()?;
    let reached = servers.into_iter().filter_map(|server| {
        let local = local_address(server.address)?;
        let interface = &addresses.iter().find(|it| it.address == local)?.interface;
        let below = all_below(interface, all, DEEPEST);
        let interfaces = std::iter::once(interface).chain(below).map(|it| it.index).collect();
        Some(Reached { server, interfaces })
    });
    Ok(reached.collect())
}

/// The address of this host in packets to another one. None is sent.
fn local_address(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((remote, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether the list of a guard lets a host make calls now, over UDP, too.
fn may_call(guard: &Guard, address: IpAddr) -> Result<bool> {
    let Some(covering) = guard.covering(address)? else { return Ok(false) };
    let of_list = guard.list().map_or(UdpCalls::All, |list| list.udp_calls);
    let conditions = covering.conditions.unwrap_or(Conditions::none(of_list));
    Ok(conditions.denial(guard::boot_now).is_none() && conditions.permitted() != UdpCalls::None)
}

/// Those that the list of a guard lacks.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Servers whose packets arrive on its interface.
    servers: Vec<Server>,
    /// Link-local sources of IPv6 that it has counted, and how many packets of theirs.
    link_local: Vec<(IpAddr, u64)>,
    /// Whether its list permits broadcasts, which are `CALLIT`.
    permits_broadcasts: bool,
}

impl Callers {
    pub(super) fn gather(guard: &Guard, servers: &[Reached]) -> Result<Self> {
        let permits_broadcasts = guard.list().is_none_or(|list| list.udp_calls == UdpCalls::All);
        let mut callers = Self { permits_broadcasts, ..Self::default() };
        for Reached { server, interfaces } in servers {
            if interfaces.contains(&guard.interface().index) && !may_call(guard, server.address)? {
                callers.servers.push(server.clone());
            }
        }
        for source in guard.counters()?.sources {
            let of_link = matches!(source.address, IpAddr::V6(it) if it.is_unicast_link_local());
            if of_link && guard.covering(source.address)?.is_none() {
                callers.link_local.push((source.address, source.count.packets));
            }
        }
        callers.link_local.sort_unstable();
        Ok(callers)
    }

    /// `list` is the file of the guard's list.
    pub(super) fn judge(&self, interface: &str, list: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let in_force = format!("{}, then run: portguard reload {}", quoted(list), quoted(interface));
        if let [first, ..] = &self.servers[..] {
            let mut addresses: Vec<String> = self.servers.iter().map(|it| it.address.to_string()).collect();
            addresses.dedup();
            let found = format!(
                "its list lacks the NFS server {}, mounted on {}, which calls port 111 of its clients: locks come late, \
                 and are lost when the server restarts",
                addresses.join(", "),
                first.mounted_on
            );
            let remedy = format!("Add {} to {in_force}", addresses.join(" and "));
            findings.push(Finding::warning("guard.servers", found, RemedyKind::AllowServer.text(remedy)));
        }
        if let [(first, _), rest @ ..] = &self.link_local[..] {
            let packets = self.link_local.iter().map(|(_, packets)| packets).sum();
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let found = format!(
                "{} came from {first}{more}, which its list lacks: hosts of the link ask from such an address if they \
                 broadcast over IPv6 (NIS, rpcinfo -b)",
                counted(packets, "packet")
            );
            let with = if self.permits_broadcasts { "" } else { ", with `udp: all`, which broadcasts need" };
            let remedy = format!(
                "If those are your clients, add {first}, or fe80::/10 for every host of the link{with}, to {in_force}"
            );
            findings.push(Finding::warning(
                "guard.link_local",
                found,
                RemedyKind::AllowLinkLocal.text(remedy),
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_hosts_of_the_link_that_a_list_lacks_are_named() {
        let server = |address: &str| Server { address: address.parse().unwrap(), mounted_on: "/mnt".into() };
        let callers = Callers {
            servers: vec![server("192.0.2.1"), server("192.0.2.1"), server("2001:db8::1")],
            link_local: vec![("fe80::1".parse().unwrap(), 2), ("fe80::2".parse().unwrap(), 3)],
            permits_broadcasts: true,
        };
        let findings = callers.judge("eth0", "/etc/list.yaml");
        let [servers, link_local] = &findings[..] else { panic!("{findings:?}") };
        assert!(servers.found.contains("NFS server 192.0.2.1, 2001:db8::1, mounted on /mnt"), "{servers:?}");
        let remedy = &servers.remedy.as_ref().unwrap().text;
        assert_eq!(
            remedy,
            "Add 192.0.2.1 and 2001:db8::1 to /etc/list.yaml, then run: portguard reload eth0"
        );
        assert!(link_local.found.starts_with("5 packets came from fe80::1 and 1 more"), "{link_local:?}");
        assert!(!link_local.remedy.as_ref().unwrap().text.contains("udp"), "{link_local:?}");
        let callers = Callers { permits_broadcasts: false, ..callers };
        let remedy = callers.judge("eth0", "/etc/list.yaml").remove(1).remedy.unwrap().text;
        assert!(
            remedy.contains("for every host of the link, with `udp: all`, which broadcasts need, to"),
            "{remedy}"
        );
        assert!(Callers::default().judge("eth0", "/etc/list.yaml").is_empty());
    }

    #[test]
    fn the_address_in_packets_to_this_host_is_its_own() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(local_address(address), Some(address));
        }
    }
}
