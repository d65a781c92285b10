//! A list that loses all entries of a family cuts off every client of it: that takes a word.

use super::assert_unchanged;
use crate::support::{IFACE, PORTGUARD, Portguard, SingleHost};

/// Which families a list has entries of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    const ALL: [Self; 4] = [
        Self { v4: true, v6: true },
        Self { v4: true, v6: false },
        Self { v4: false, v6: true },
        Self { v4: false, v6: false },
    ];

    /// The entries of list number `variant`: other ones for each.
    fn entries(self, variant: u32) -> Vec<String> {
        let v4 = self.v4.then(|| format!("192.0.{variant}.0/24"));
        let v6 = self.v6.then(|| format!("2001:db8:{variant}::/48"));
        v4.into_iter().chain(v6).collect()
    }

    /// Whether a family that has entries here has none there.
    fn loses(self, next: Self) -> bool {
        (self.v4 && !next.v4) || (self.v6 && !next.v6)
    }
}

/// The ways to put another list in force: by the guard's own file, or by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Attach,
    AttachOther,
    Reload,
    ReloadOther,
}

impl Way {
    const ALL: [Self; 4] = [Self::Attach, Self::AttachOther, Self::Reload, Self::ReloadOther];
}

#[track_caller]
fn families(portguard: Portguard<'_>) -> Families {
    let list = portguard.status().allowlist;
    Families { v4: list.prefixes_v4 > 0, v6: list.prefixes_v6 > 0 }
}

#[test]
fn a_list_that_loses_all_entries_of_a_family_takes_allow_empty() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let (mut refused, mut taken) = (0, 0);
    for before in Families::ALL {
        let own = host.lists.write("own.yaml", before.entries(1));
        let sources = {
            // At a first attachment there is nothing to lose.
            portguard.ok(&["attach", IFACE, "--allowlist", &own]);
            assert_eq!(families(portguard), before);
            host.machine.sources_of(&portguard.status())
        };
        for next in Families::ALL {
            for way in Way::ALL {
                let what = format!("{way:?}: {before:?}, then {next:?}");
                let other = host.lists.write("other.yaml", next.entries(2));
                let arguments = match way {
                    Way::Attach => vec!["attach", IFACE],
                    Way::AttachOther => vec!["attach", IFACE, "--allowlist", &other],
                    Way::Reload => vec!["reload"],
                    Way::ReloadOther => vec!["reload", IFACE, "--allowlist", &other],
                };
                if matches!(way, Way::Attach | Way::Reload) {
                    host.lists.write("own.yaml", next.entries(2));
                }
                let status = portguard.status();
                let output = portguard.run(&arguments);
                if before.loses(next) {
                    refused += 1;
                    assert_eq!((output.code, &*output.stdout), (1, ""), "{what}: {output:?}");
                    assert!(output.stderr.contains("--allow-empty"), "{what}: {output:?}");
                    assert_unchanged(&host.machine, &status, sources, &portguard.status(), &what);
                    portguard.ok(&[&arguments[..], &["--allow-empty"]].concat());
                } else {
                    taken += 1;
                    assert_eq!(output.code, 0, "{what}: {output:?}");
                }
                assert_eq!(families(portguard), next, "{what}");
                host.machine.assert_tidy(1);
                // As before the next case.
                host.lists.write("own.yaml", before.entries(1));
                portguard.ok(&["reload", "--allow-empty", "--allowlist", &own]);
            }
        }
        portguard.ok(&["detach", IFACE]);
    }
    assert_eq!((refused, taken), (28, 36));
}

/// A change of something else does not hide it.
#[test]
fn what_else_a_command_names_is_refused_together_with_the_list() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write("list.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--sources", "1024"]);
    let before = portguard.status();
    host.lists.write("list.yaml", ["192.0.2.0/24"]);
    for named in [&["--audit"][..], &["--sources", "512"], &["--audit", "--sources", "512"]] {
        let told = portguard.fails(1, &[&["attach", IFACE], named].concat());
        assert!(told.contains("--allow-empty"), "{told}");
        assert_unchanged(&host.machine, &before, 1024, &portguard.status(), &format!("{named:?}"));
        host.machine.assert_tidy(1);
    }
}
