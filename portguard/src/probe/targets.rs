//! Which addresses a probe is for.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use portguard_common::PORT;

use crate::error::{Error, Result};
use crate::interface::{self, Address};
use crate::printable::printable;

/// An address to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address and port.
    pub address: SocketAddr,
    /// The interface that leads there, if the address does not tell (RFC 4007).
    pub zone: Option<String>,
    /// Whether it is one of this host's own, so that calls go over the loopback interface.
    pub own: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address.ip())?;
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, "%{}", printable(zone)))
    }
}

/// Whether an address means nothing without an interface.
fn needs_zone(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The addresses of this host, but for those of the loopback interface: nobody else reaches these.
///
/// # Errors
/// There are none, or the kernel does not tell.
pub fn own() -> Result<Vec<Target>> {
    let own: Vec<Target> = interface::addresses()?
        .into_iter()
        .filter(|own| !own.interface.loopback)
        .map(|Address { address, interface }| {
            let zone = needs_zone(address).then_some(&interface);
            let index = zone.map_or(0, |interface| interface.index);
            Target {
                address: at(address, index),
                zone: zone.map(|interface| interface.name.clone()),
                own: true,
            }
        })
        .collect();
    if own.is_empty() {
        return Err(Error::failed("this host has no addresses except those of the loopback interface")
            .remedy("Name the host to probe: portguard probe HOST."));
    }
    Ok(own)
}

/// The addresses of a host, by its name or one of them.
///
/// # Errors
/// There are none, or they are not told in time.
pub fn of(host: &str, limit: Duration) -> Result<Vec<Target>> {
    // Without it, nothing is known to be this host's own.
    let own = interface::addresses().unwrap_or_default();
    let mut targets: Vec<Target> = Vec::new();
    for address in look_up(host, limit)? {
        let scope = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
        if scope == 0 && needs_zone(address.ip()) {
            return Err(without_zone(address.ip()));
        }
        let address = at(address.ip().to_canonical(), scope);
        let ip = address.ip();
        let zone = own.iter().find(|own| scope != 0 && own.interface.index == scope);
        let target = Target {
            address,
            zone: zone.map(|own| own.interface.name.clone()),
            own: ip.is_loopback() || ip.is_unspecified() || own.iter().any(|own| own.address == ip),
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// That an address means nothing without its interface, and which one to add.
fn without_zone(address: IpAddr) -> Error {
    let interfaces = interface::all().unwrap_or_default();
    let name = interfaces.iter().find(|interface| !interface.loopback).map_or("IFACE", |it| &*it.name);
    Error::failed(format!("{address} is an address of a link"))
        .because("such addresses are in use on every link, and it does not name its interface")
        .remedy(format!(
            "Add the interface that leads to the host: portguard probe {address}%{}",
            printable(name)
        ))
}

fn at(address: IpAddr, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(address) => (address, PORT).into(),
        IpAddr::V6(address) => SocketAddrV6::new(address, PORT, 0, scope).into(),
    }
}

/// Asks the resolver of the system, in a thread that ends with the process if it hangs.
fn look_up(host: &str, limit: Duration) -> Result<Vec<SocketAddr>> {
    let (sender, answer) = mpsc::channel();
    let name = host.to_owned();
    thread::spawn(move || {
        let found = (name.as_str(), PORT).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody may be waiting any more.
        let _ = sender.send(found);
    });
    let failed = || Error::failed(format!("cannot look up {}", printable(&format!("`{host}`"))));
    match answer.recv_timeout(limit) {
        Ok(Ok(found)) if found.is_empty() => Err(failed().because("it has no address")),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(failed()
            .caused_by(error)
            .remedy("Give a name or an address, without a port or a prefix length.")),
        Err(RecvTimeoutError::Timeout) => Err(failed()
            .because(format!("the resolver has not replied within {limit:?}"))
            .remedy("Give it more time with --timeout, or name an address.")),
        Err(RecvTimeoutError::Disconnected) => Err(failed().because("the resolver has failed")),
    }
}
