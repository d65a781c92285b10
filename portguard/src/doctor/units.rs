//! The addresses that systemd lets rpcbind's units talk to (`IPAddressAllow=` and `IPAddressDeny=`, systemd.resource-control(5)).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::command;
use super::firewall::{Atom, Passage};
use super::init::Init;
use crate::guard;

const ALLOW: &str = "IPAddressAllow=";
const DENY: &str = "IPAddressDeny=";
/// Where control groups are; with the old hierarchy beside them.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Groups are in one another, but not endlessly.
const DEEPEST: u32 = 16;
/// The units of rpcbind, if it is not known which one a socket belongs to.
const OF_RPCBIND: [&str; 2] = ["rpcbind.socket", "rpcbind.service"];

/// What the units of sockets are ordered, by the control group of the socket. A socket belongs to the group in which it was
/// made, for ever: one that systemd has made before the lists were set is of the first process.
#[derive(Debug, Default)]
pub(super) struct Units {
    by_group: BTreeMap<u64, Unit>,
    /// Those that a socket of an unknown group may belong to.
    any: Vec<Unit>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    name: String,
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    /// How many programs judge its packets.
    programs: u32,
}

impl Units {
    /// Those of sockets with these control groups, by inode number.
    pub(super) fn read(groups: &[Option<u64>]) -> Self {
        let is_booted = Init::of(Path::new("/")) == Init::Systemd;
        let mut units = Self::default();
        for group in groups.iter().copied().flatten() {
            if let Some(path) = GROUPS.iter().find_map(|root| find(Path::new(root), group, DEEPEST)) {
                units.by_group.insert(group, Unit::of(&path, is_booted));
            }
        }
        if is_booted && groups.contains(&None) {
            units.any = OF_RPCBIND.map(|name| Unit::named(name.to_owned())).into();
        }
        units
    }

    /// What becomes of a stranger's packet for a socket.
    pub(super) fn passage(&self, group: Option<u64>, ipv6: bool) -> Passage {
        match group {
            Some(group) => self.by_group.get(&group).map_or(Passage::Open, |unit| unit.passage(ipv6)),
            None => match self.any.iter().map(|unit| unit.ordered(ipv6)).find(|it| *it != Passage::Open) {
                Some(_) => {
                    Passage::Unclear("it is not known to which unit of systemd the socket belongs".to_owned())
                }
                None => Passage::Open,
            },
        }
    }
}

/// The folder of a control group, by its inode number.
fn find(folder: &Path, group: u64, depth: u32) -> Option<PathBuf> {
    if fs::metadata(folder).is_ok_and(|it| it.ino() == group) {
        return Some(folder.to_owned());
    }
    if depth == 0 {
        return None;
    }
    let entries =
        fs::read_dir(folder).ok()?.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.map(|it| it.path()).find_map(|it| find(&it, group, depth - 1))
}

impl Unit {
    /// That of a control group.
    fn of(group: &Path, is_booted: bool) -> Self {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_unit = [".socket", ".service", ".scope", ".slice"].iter().any(|end| name.ends_with(end));
        let mut unit =
            if is_booted && is_unit { Self::named(name) } else { Self { name, ..Self::default() } };
        let count = File::open(group).and_then(|group| guard::count_on_group(group.as_fd()));
        unit.programs = count.unwrap_or_default();
        unit
    }

    /// One that systemd calls so.
    pub(super) fn named(name: String) -> Self {
        let mut unit = Self { name, ..Self::default() };
        let mut next = Some(unit.name.clone());
        // The lists of its slices are added to its own.
        for _ in 0..DEEPEST {
            let Some(name) = next.take().filter(|name| !name.is_empty()) else { break };
            let properties = ["--property=IPAddressAllow,IPAddressDeny,Slice", "--", &*name];
            let Ok(text) = command::output("systemctl", &[&["show"][..], &properties].concat()) else {
                break;
            };
            next = unit.add(&text);
        }
        unit
    }

    /// Whom it lets through, if it is ordered to deny all others; `None` if it is not.
    pub(super) fn allowed_of_all(self) -> Option<Vec<IpNet>> {
        let denies_all =
            [false, true].into_iter().all(|ipv6| Atom::names_strangers(&self.deny, ipv6) == Some(true));
        denies_all.then_some(self.allow)
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

    fn passage(&self, ipv6: bool) -> Passage {
        match (self.ordered(ipv6), self.programs) {
            // What systemd is ordered is not in force.
            (_, 0) => Passage::Open,
            // Somebody else's.
            (Passage::Open, _) if self.allow.is_empty() && self.deny.is_empty() => {
                Passage::Unclear(format!("BPF programs judge the packets of {}", self.name))
            }
            (ordered, _) => ordered,
        }
    }

    /// An address on the first list is let through, any other one on the second is not.
    fn ordered(&self, ipv6: bool) -> Passage {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(text: &str, ipv6: bool) -> &'static str {
        let mut unit = Unit { name: "rpcbind.socket".into(), programs: 1, ..Unit::default() };
        unit.add(text);
        assert_eq!(Unit { programs: 0, ..unit.clone() }.passage(ipv6), Passage::Open, "not in force");
        match unit.passage(ipv6) {
            Passage::Open => "open",
            Passage::Blocked(_) => "blocked",
            Passage::Unclear(_) => "unclear",
        }
    }

    #[test]
    fn a_unit_that_denies_all_but_a_few_keeps_strangers_out() {
        for (text, ipv4, ipv6) in [
            ("IPAddressAllow=\nIPAddressDeny=\n", "unclear", "unclear"),
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
        assert!(matches!(unit.ordered(true), Passage::Blocked(_)));
    }
}
