//! Cables: veth pairs between namespaces.

use anyhow::{Context as _, Result};

use super::Namespace;

/// One plug of a cable.
#[derive(Debug, Clone)]
pub struct End<'a> {
    namespace: &'a Namespace,
    interface: &'a str,
    addresses: Vec<String>,
}

impl<'a> End<'a> {
    /// The interface of that name in `namespace`, without an address.
    pub fn new(namespace: &'a Namespace, interface: &'a str) -> Self {
        Self { namespace, interface, addresses: Vec::new() }
    }

    /// Adds an address with its prefix length, such as `192.0.2.1/24`.
    #[must_use]
    pub fn address(mut self, prefix: impl Into<String>) -> Self {
        self.addresses.push(prefix.into());
        self
    }

    fn bring_up(&self, mtu: Option<u16>) -> Result<()> {
        let Self { namespace, interface, addresses } = self;
        if let Some(mtu) = mtu {
            namespace.ip(&format!("link set {interface} mtu {mtu}"))?;
        }
        namespace.ip(&format!("link set {interface} up"))?;
        addresses.iter().try_for_each(|address| namespace.add_address(interface, address))
    }
}

/// A cable to be laid. It goes away with either namespace.
#[derive(Debug, Clone, Default)]
pub struct Veth {
    mtu: Option<u16>,
}

impl Veth {
    /// A cable with the kernel's defaults: MTU 1500.
    pub fn new() -> Self {
        Self::default()
    }

    /// The MTU of both ends.
    #[must_use]
    pub fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Plugs it in, and brings both ends up.
    pub fn connect(&self, a: &End<'_>, b: &End<'_>) -> Result<()> {
        a.namespace
            .ip(&format!(
                "link add {} type veth peer name {} netns {}",
                a.interface,
                b.interface,
                b.namespace.name()
            ))
            .context("cannot create a veth pair")?;
        a.bring_up(self.mtu)?;
        b.bring_up(self.mtu)
    }
}
