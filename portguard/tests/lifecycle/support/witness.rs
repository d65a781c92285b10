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

/// The number of the XDP program on an interface.
pub(crate) fn program_on(namespace: &Namespace, interface: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Link {
        xdp: Option<Xdp>,
    }
    #[derive(Deserialize)]
    struct Xdp {
        prog: Program,
    }
    #[derive(Deserialize)]
    struct Program {
        id: u32,
    }
    let mut command = namespace.command("ip");
    let json =
        run(command.args(["-json", "-details", "link", "show", "dev", interface])).expect("ip link").stdout;
    let [link]: [Link; 1] = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    link.xdp.map(|xdp| xdp.prog.id)
}
