//! The addresses that systemd lets rpcbind's units talk to (`IPAddressAllow=` and `IPAddressDeny=`, systemd.resource-control(5)).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ipnet::IpNet;

use super::command;
use super::firewall::{Atom, Passage};
use super::init::Init;
use super::owners;
use crate::sockets::Sockets;

const ALLOW: &str = "IPAddressAllow=";
const DENY: &str = "IPAddressDeny=";

/// What the units are ordered.
#[derive(Debug, Default)]
pub(super) struct Units(Vec<Unit>);

#[derive(Debug, Default)]
struct Unit {
    name: String,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Units {
    /// Those that hold the sockets of port 111.
    pub(super) fn read(sockets: &Sockets) -> Self {
        if Init::of(Path::new("/")) != Init::Systemd {
            return Self::default();
        }
        let wanted: BTreeSet<u64> = sockets.of_rpcbind().map(|socket| socket.inode).collect();
        let owners = owners::of(&wanted);
        // Sockets that systemd has made have the filter of the unit that made them.
        let names: BTreeSet<String> = match owners.iter().any(|it| it.id == 1) {
            true => BTreeSet::from(["rpcbind.socket".to_owned()]),
            false => owners.iter().filter_map(|it| unit_of(it.id)).collect(),
        };
        Self(names.into_iter().map(Unit::read).collect())
    }

    /// What becomes of a stranger's packet.
    pub(super) fn passage(&self, ipv6: bool) -> Passage {
        // One that lets it through is enough for an answer.
        let passages: Vec<Passage> = self.0.iter().map(|unit| unit.passage(ipv6)).collect();
        match passages.iter().find(|it| !matches!(it, Passage::Blocked(_))) {
            Some(other) => other.clone(),
            None => passages.into_iter().next().unwrap_or(Passage::Open),
        }
    }
}

impl Unit {
    fn read(name: String) -> Self {
        let mut unit = Self { name, ..Self::default() };
        let mut next = Some(unit.name.clone());
        // The lists of its slices are added to its own.
        for _ in 0..16 {
            let Some(name) = next.take().filter(|name| !name.is_empty()) else { break };
            let properties = ["--property=IPAddressAllow,IPAddressDeny,Slice", "--", &*name];
            let Ok(text) = command::output("systemctl", &[&["show"][..], &properties].concat()) else {
                break;
            };
            next = unit.add(&text);
        }
        unit
    }

    /// Takes over what `systemctl show` prints, and returns the slice that the unit is in.
    fn add(&mut self, text: &str) -> Option<String> {
        let prefixes =
            |list: &str| list.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<IpNet>>();
        let mut slice = None;
        for line in text.lines() {
            if let Some(list) = line.strip_prefix(ALLOW) {
                self.allow.extend(prefixes(list));
            } else if let Some(list) = line.strip_prefix(DENY) {
                self.deny.extend(prefixes(list));
            } else if let Some(name) = line.strip_prefix("Slice=") {
                slice = Some(name.to_owned());
            }
        }
        slice
    }

    /// An address on the first list is let through, any other one on the second is not.
    fn passage(&self, ipv6: bool) -> Passage {
        let names = |list: &[IpNet]| Atom::names_strangers(list, ipv6);
        match (names(&self.allow), names(&self.deny)) {
            (Some(false), Some(true)) => Passage::Blocked(format!("IPAddressDeny= of {}", self.name)),
            (Some(true), _) | (_, Some(false)) => Passage::Open,
            _ => Passage::Unclear(format!(
                "IPAddressAllow= and IPAddressDeny= of {} name many addresses",
                self.name
            )),
        }
    }
}

/// The unit that a process belongs to.
fn unit_of(process: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::").or_else(|| line.split(":name=systemd:").nth(1)))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(text: &str, ipv6: bool) -> &'static str {
        let mut unit = Unit { name: "rpcbind.socket".into(), ..Unit::default() };
        unit.add(text);
        match Units(vec![unit]).passage(ipv6) {
            Passage::Open => "open",
            Passage::Blocked(_) => "blocked",
            Passage::Unclear(_) => "unclear",
        }
    }

    #[test]
    fn a_unit_that_denies_all_but_a_few_keeps_strangers_out() {
        for (text, ipv4, ipv6) in [
            ("IPAddressAllow=\nIPAddressDeny=\n", "open", "open"),
            ("IPAddressAllow=127.0.0.0/8 10.0.0.0/8\nIPAddressDeny=::/0 0.0.0.0/0\n", "blocked", "blocked"),
            ("IPAddressAllow=\nIPAddressDeny=0.0.0.0/0\n", "blocked", "open"),
            ("IPAddressAllow=0.0.0.0/0\nIPAddressDeny=0.0.0.0/0 ::/0\n", "open", "blocked"),
            ("IPAddressAllow=\nIPAddressDeny=192.0.2.0/24\n", "open", "open"),
            ("IPAddressAllow=0.0.0.0/1\nIPAddressDeny=0.0.0.0/0 ::/0\n", "unclear", "blocked"),
        ] {
            assert_eq!((passage(text, false), passage(text, true)), (ipv4, ipv6), "{text}");
        }
    }

    #[test]
    fn the_lists_of_slices_are_added() {
        let mut unit = Unit::default();
        assert_eq!(
            unit.add("IPAddressAllow=\nIPAddressDeny=\nSlice=system.slice\n").as_deref(),
            Some("system.slice")
        );
        assert_eq!(unit.add("IPAddressDeny=0.0.0.0/0 ::/0\nSlice=-.slice\n").as_deref(), Some("-.slice"));
        assert!(matches!(unit.passage(true), Passage::Blocked(_)));
    }
}
