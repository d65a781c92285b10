//! Two network cards on one wire, as the machines of `cargo xtask vm-test` have them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::ifaddrs::getifaddrs;

use super::process::{run, tool, wait_until};
use super::{Host, Namespace};

/// The addresses that the cards are known by: no other machine has cards with these.
pub const CARDS: [&str; 2] = ["02:70:67:00:00:01", "02:70:67:00:00:02"];
/// Those of two more, on another wire: a card that has a stand-in (`failover=on` of QEMU), and one that has none.
pub const FAILOVER: [&str; 2] = ["02:70:67:00:00:03", "02:70:67:00:00:04"];
/// How long the kernel may take to give back a card when a namespace goes.
const LIMIT: Duration = Duration::from_secs(60);

/// The cards, each alone in a namespace, with the interface name that hosts have. They come back when the value goes.
#[derive(Debug)]
pub struct Cards {
    /// Where the first one is.
    pub near: Namespace,
    /// Where the second one is.
    pub far: Namespace,
}

impl Cards {
    /// Takes both cards from the machine.
    pub fn take() -> Result<Self> {
        let [near, far] = [("near", CARDS[0]), ("far", CARDS[1])].map(|(label, mac)| take(label, mac));
        Ok(Self { near: near?, far: far? })
    }
}

/// Moves the card with that address into a namespace of its own.
fn take(label: &str, mac: &str) -> Result<Namespace> {
    let mut card = None;
    wait_until("the cards that cargo xtask vm-test gives to its machines", LIMIT, || {
        card = interface(mac)?;
        Ok(card.is_some())
    })?;
    let card = card.context("it was there a moment ago")?;
    let namespace = Namespace::new(label)?;
    let name = Host::INTERFACE;
    run(tool("ip").args(["link", "set", &card, "netns", namespace.name(), "name", name]))
        .with_context(|| format!("cannot move {card} into a namespace"))?;
    namespace.ip(&format!("link set {name} up"))?;
    Ok(namespace)
}

/// The name of the interface with that address.
fn interface(mac: &str) -> Result<Option<String>> {
    let has = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":") == mac;
    let interfaces = getifaddrs().context("cannot list the interfaces")?;
    Ok(interfaces
        .into_iter()
        .find(|interface| {
            interface.address.and_then(|address| address.as_link_addr()?.addr()).is_some_and(has)
        })
        .map(|interface| interface.interface_name))
}
