//! What others than portguard see of a guard: bpftool, ip, and whoever looks into the BPF file system.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::net::{Namespace, run};
use serde::Deserialize;

use crate::documents::Status;
use crate::machine::{BPFFS, Machine};

/// A link, as bpftool shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Link {
    /// Its number.
    pub id: u32,
    /// The number of its program.
    #[serde(rename = "prog_id")]
    pub program: u32,
}

/// A map, as bpftool shows it.
#[derive(Debug, Deserialize)]
struct Map {
    max_entries: u32,
}

impl Machine {
    /// The link that is pinned at a path.
    pub fn link(&self, pin: &str) -> Link {
        let mut command = Command::new("bpftool");
        command.args(["--json", "link", "show", "pinned", pin]);
        let json = run(self.mounts().enter(&mut command)).expect("a link").stdout;
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    /// How many sources each CPU remembers of a guard, by the size of the maps that the program counts in.
    pub fn sources_of(&self, guard: &Status) -> u32 {
        let entries = |map: &str| {
            let json = self.bpftool(&["map", "show", "pinned"], &self.map_of(guard, map));
            let map: Map = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
            map.max_entries
        };
        entries("REQUESTS_V4") / entries("CELLS")
    }

    /// How many entries the tries of a guard have, of IPv4 and of IPv6.
    pub fn entries_of(&self, guard: &Status) -> [usize; 2] {
        ["LIST_V4", "LIST_V6"].map(|map| {
            let json = self.bpftool(&["map", "dump", "pinned"], &self.map_of(guard, map));
            let entries: Vec<serde_json::Value> =
                serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
            entries.len()
        })
    }

    /// The path of a map of a guard, but not of an earlier set of counters. A command that failed late may have left the instance of
    /// before, whose number is lower.
    fn map_of(&self, guard: &Status, map: &str) -> String {
        let interface = Path::new(&guard.pinned).parent().expect("the directory of the interface");
        let interface =
            interface.strip_prefix(Path::new(BPFFS).join("portguard")).expect("below portguard's");
        let pins = self.pins();
        let number = |pin: &Path| -> Option<u32> {
            let instance = pin.strip_prefix(interface).ok()?.parent()?.to_str()?.strip_prefix("abi")?;
            instance.split('-').nth(1)?.parse().ok()
        };
        let found = pins.iter().map(Path::new).filter(|pin| pin.file_name().is_some_and(|name| name == map));
        let newest = found.filter(|pin| number(pin).is_some()).max_by_key(|pin| number(pin));
        let pin = newest.unwrap_or_else(|| panic!("no {map}: {pins:#?}"));
        Path::new(BPFFS).join("portguard").join(pin).display().to_string()
    }

    fn bpftool(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("bpftool");
        command.arg("--json").args(arguments).arg(path);
        run(self.mounts().enter(&mut command)).expect("a map").stdout
    }

    /// How many earlier sets of counters are kept beside those that programs write.
    pub fn earlier_sets(&self) -> usize {
        let is_set = |pin: &&String| {
            Path::new(pin)
                .file_name()
                .is_some_and(|name| name.display().to_string().starts_with("before-abi"))
        };
        self.pins().iter().filter(is_set).count()
    }

    /// Asserts that this many guards are kept, each with a link, one instance, and the list of an instance of ABI 5; and
    /// nothing else.
    #[track_caller]
    pub fn assert_tidy(&self, guards: usize) {
        self.assert_tidy_with(guards, &[]);
    }

    /// The same, with more pins of each guard.
    #[track_caller]
    pub fn assert_tidy_with(&self, guards: usize, more: &[&str]) {
        let pins = self.pins();
        // NAMESPACE/INTERFACE -> what is in it
        let mut kept: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for pin in &pins {
            let mut names = pin.splitn(3, '/');
            match (names.next(), names.next(), names.next()) {
                (Some(namespace), Some(interface), Some(what)) if !what.contains('/') => {
                    kept.entry((namespace, interface)).or_default().push(what);
                }
                _ => {}
            }
        }
        assert_eq!(kept.len(), guards, "{pins:#?}");
        if guards == 0 {
            assert!(pins.iter().all(|pin| !pin.contains('/')), "directories at most: {pins:#?}");
        }
        for (guard, mut what) in kept {
            for name in more {
                assert!(what.contains(name), "{guard:?} has no {name}: {what:?}");
            }
            what.retain(|name| !more.contains(name));
            what.sort_unstable();
            // Earlier sets of counters are no leftovers: see `earlier_sets`.
            what.retain(|name| !name.starts_with("before-abi"));
            let (instance, lists) = match what[..] {
                [instance, "link"] => (instance, None),
                [instance, "link", v4, v6] => (instance, Some((v4, v6))),
                _ => panic!("{guard:?}: {what:?}"),
            };
            assert!(instance.starts_with("abi"), "{guard:?}: {instance}");
            let Some((v4, v6)) = lists else { continue };
            let generation = |name: &str, family| -> u64 {
                let list = name.strip_prefix("list").and_then(|name| name.strip_suffix(family));
                list.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{guard:?}: {name}"))
            };
            assert_eq!(generation(v4, "-v4"), generation(v6, "-v6"), "{guard:?}");
        }
    }
}

/// What `ip` tells of an interface.
#[derive(Debug, Deserialize)]
struct Interface {
    xdp: Option<Xdp>,
    stats64: Statistics,
}

#[derive(Debug, Deserialize)]
struct Xdp {
    prog: Program,
}

#[derive(Debug, Deserialize)]
struct Program {
    id: u32,
}

#[derive(Debug, Deserialize)]
struct Statistics {
    tx: Sent,
}

#[derive(Debug, Deserialize)]
struct Sent {
    dropped: u64,
}

fn interface(namespace: &Namespace, name: &str) -> Interface {
    let mut ip = namespace.command("ip");
    let json =
        run(ip.args(["-json", "-details", "-statistics", "link", "show", "dev", name])).expect("ip").stdout;
    let [interface]: [Interface; 1] =
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    interface
}

/// The number of the XDP program on an interface.
pub fn program_on(namespace: &Namespace, name: &str) -> Option<u32> {
    interface(namespace, name).xdp.map(|xdp| xdp.prog.id)
}

/// How many frames an interface was to send, and did not, for want of room at the other end.
pub fn lost_by(namespace: &Namespace, name: &str) -> u64 {
    interface(namespace, name).stats64.tx.dropped
}
