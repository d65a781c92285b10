//! The second net behind the guards: what systemd lets through to the sockets of rpcbind, from the same list. It sees what no card sees, as
//! packets of tunnels and those that a NAT rule has redirected (systemd.resource-control(5), `IPAddressAllow=`).

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::allowlist::{Allowlist, Entry, short};
use crate::printable::printable;

/// A unit of rpcbind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// That of the sockets that systemd makes.
    Socket,
    /// That of the process, with the sockets that it makes itself.
    Service,
}

impl Unit {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Socket, Self::Service];

    /// The unit with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "rpcbind.socket",
            Self::Service => "rpcbind.service",
        }
    }

    const fn section(self) -> &'static str {
        match self {
            Self::Socket => "Socket",
            Self::Service => "Service",
        }
    }
}

/// Whether an entry has ended.
fn has_ended(entry: &Entry, now: Timestamp) -> bool {
    entry.conditions().and_then(|conditions| conditions.until).is_some_and(|until| until <= now)
}

/// The drop-in of a unit that lets in whom a list lets in now. Systemd knows no conditions, so an entry with some is as one without.
pub fn drop_in(list: &Allowlist, unit: Unit, now: Timestamp) -> String {
    let (name, path) = (unit.name(), printable(&list.path().to_string_lossy()));
    let file = format!("/etc/systemd/system/{name}.d/portguard-addresses.conf");
    let mut text = format!(
        "\
# Made by `portguard suggest --systemd {name}` from {path}. Make it again when that changes:
#   mkdir -p /etc/systemd/system/{name}.d
#   portguard suggest --systemd {name} > {file}
#   systemctl daemon-reload; systemctl restart {name}
# Do the same for the other unit of rpcbind. `portguard doctor` compares both with the lists of the guards.
#
# systemd judges what comes in and what goes out, behind tunnels and NAT, and counts nothing. Conditions of entries mean nothing to it.
# If this host asks itself by an address that it has on a card (rpcinfo -p ADDRESS), add that address.
"
    );
    for entry in list.entries().iter().filter(|entry| has_ended(entry, now)) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# Left out, because it has ended: {}", short(entry.prefix()));
    }
    let _ = write!(text, "[{}]\nIPAddressDeny=any\nIPAddressAllow=localhost\n", unit.section());
    for entry in list.entries().iter().filter(|entry| !has_ended(entry, now)) {
        let _ = writeln!(text, "IPAddressAllow={}", short(entry.prefix()));
    }
    text
}
