//! What others than portguard see of a guard: bpftool, ip, and whoever looks into the BPF file system.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;
use xtask::lab::{Namespace, run};

use super::Machine;

/// A link, as bpftool shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Link {
    pub(crate) id: u32,
    #[serde(rename = "prog_id")]
    pub(crate) program: u32,
}

impl Machine {
    /// The link that is pinned at a path.
    pub(crate) fn link(&self, pin: &str) -> Link {
        let mut command = Command::new("bpftool");
        command.args(["--json", "link", "show", "pinned", pin]);
        let json = run(self.mounts().enter(&mut command)).expect("a link").stdout;
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
    }

    /// Asserts that this many guards are kept, each with a link, one instance, and one list; and nothing else.
    #[track_caller]
    pub(crate) fn assert_tidy(&self, guards: usize) {
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
            what.sort_unstable();
            let [instance, link, v4, v6] = what[..] else { panic!("{guard:?}: {what:?}") };
            assert!(instance.starts_with("abi"), "{guard:?}: {instance}");
            assert_eq!(link, "link", "{guard:?}");
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
pub(crate) fn program_on(namespace: &Namespace, name: &str) -> Option<u32> {
    interface(namespace, name).xdp.map(|xdp| xdp.prog.id)
}

/// How many frames an interface was to send, and did not, for want of room at the other end.
pub(crate) fn lost_by(namespace: &Namespace, name: &str) -> u64 {
    interface(namespace, name).stats64.tx.dropped
}
