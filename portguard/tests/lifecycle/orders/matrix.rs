//! Every part of an order, named and not named, on guards that were attached with the default and with something else.

use std::panic::resume_unwind;
use std::thread;

use super::{DEFAULT_LIST, assert_unchanged, changes, write_default_list};
use crate::support::{IFACE, PORTGUARD, SingleHost, Status};

/// A part of an order. Each has two values beside the default of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    List,
    Mode,
    Audit,
    Sources,
}

impl Part {
    const ALL: [Self; 4] = [Self::List, Self::Mode, Self::Audit, Self::Sources];
}

/// What is said of a part of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Nothing.
    Not,
    /// What a guard has whose first attachment did not name it; of the sources, a number.
    Usual,
    /// Something else.
    Other,
}

impl Named {
    /// The value after this is said, if it was `before`.
    fn value<T>(self, before: T, usual: T, other: T) -> T {
        match self {
            Self::Not => before,
            Self::Usual => usual,
            Self::Other => other,
        }
    }
}

/// What a command line says of each part, in the order of [`Part::ALL`].
type Line = [Named; 4];

/// All lines of these words.
fn lines<const N: usize>(words: [Named; N]) -> Vec<Line> {
    let mut lines = vec![[Named::Not; 4]];
    for part in 0..4 {
        lines = lines.iter().flat_map(|line| words.map(|word| with(*line, part, word))).collect();
    }
    lines
}

fn with(mut line: Line, part: usize, word: Named) -> Line {
    line[part] = word;
    line
}

/// The lists, and what the default one is.
struct Lists {
    other: String,
}

/// What a guard does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    list: String,
    mode: &'static str,
    audit: bool,
    /// The default of this host, if absent.
    sources: Option<u32>,
}

impl Lists {
    fn new(guarded: &SingleHost) -> Self {
        write_default_list(
            &guarded.machine,
            "allow:\n  - 192.0.2.0/24\n  - 198.51.100.0/24\n  - 2001:db8::/48\n",
        );
        let other = ["192.0.2.0/24", "203.0.113.0/24", "10.0.0.0/8", "2001:db8::/48"];
        Self { other: guarded.lists.write("other.yaml", other) }
    }

    /// The arguments that a line stands for.
    fn arguments(&self, line: Line) -> Vec<&str> {
        let mut arguments = vec!["attach", IFACE];
        for (part, named) in Part::ALL.into_iter().zip(line) {
            arguments.extend(match (part, named) {
                (_, Named::Not) => vec![],
                (Part::List, Named::Usual) => vec!["--allowlist", DEFAULT_LIST],
                (Part::List, Named::Other) => vec!["--allowlist", &self.other],
                (Part::Mode, Named::Usual) => vec!["--mode", "native"],
                (Part::Mode, Named::Other) => vec!["--mode", "generic"],
                (Part::Audit, Named::Usual) => vec!["--enforce"],
                (Part::Audit, Named::Other) => vec!["--audit"],
                (Part::Sources, Named::Usual) => vec!["--sources", "1024"],
                (Part::Sources, Named::Other) => vec!["--sources", "512"],
            });
        }
        arguments
    }

    /// What a guard does after a line, if it did `before`.
    fn after(&self, before: &Order, [list, mode, audit, sources]: Line) -> Order {
        Order {
            list: list.value(before.list.clone(), DEFAULT_LIST.to_owned(), self.other.clone()),
            mode: mode.value(before.mode, "native", "generic"),
            audit: audit.value(before.audit, false, true),
            sources: sources.value(before.sources, Some(1024), Some(512)),
        }
    }

    /// How the change from one order to another is told, sorted as [`changes`] are.
    fn told(&self, before: &Order, after: &Order, default_sources: u32) -> Vec<String> {
        let mut told = Vec::new();
        if before.list != after.list {
            let difference = if after.list == self.other { "+2 -1" } else { "+1 -2" };
            told.push(format!("  allowlist {} -> {}, {difference}", before.list, after.list));
        }
        let word = |order: &Order| if order.audit { "audit" } else { "enforcing" };
        if before.audit != after.audit {
            told.push(format!("  {} -> {}", word(before), word(after)));
        }
        let sources = |order: &Order| order.sources.unwrap_or(default_sources);
        if sources(before) != sources(after) {
            told.push(format!("  sources {} -> {}", sources(before), sources(after)));
        }
        told.sort_unstable();
        told
    }
}

/// What a guard does, as `status` and the kernel say.
fn seen(guarded: &SingleHost, status: &Status, default_sources: u32) -> Order {
    let sources = guarded.machine.sources_of(status);
    Order {
        list: status.allowlist.path.clone(),
        mode: if status.mode == "native" { "native" } else { "generic" },
        audit: !status.enforcing,
        sources: (sources != default_sources).then_some(sources),
    }
}

/// What came of renewals.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    renewed: u32,
    refused: u32,
}

/// Tries renewals of a guard on one host, each after a first attachment with the line `first`.
fn try_each(first: Line, renewals: &[Line]) -> Tried {
    let guarded = SingleHost::new(PORTGUARD);
    let portguard = guarded.portguard();
    let lists = Lists::new(&guarded);
    let default = Order { list: DEFAULT_LIST.to_owned(), mode: "native", audit: false, sources: None };
    portguard.ok(&["attach", IFACE]);
    let default_sources = guarded.machine.sources_of(&portguard.status());
    assert!(![512, 1024].contains(&default_sources), "a third number");
    portguard.ok(&["detach", IFACE]);

    let mut tried = Tried::default();
    for &line in renewals {
        let what = format!("{:?}, then {:?}", lists.arguments(first), lists.arguments(line));
        portguard.ok(&lists.arguments(first));
        let before = lists.after(&default, first);
        let status = portguard.status();
        assert_eq!(seen(&guarded, &status, default_sources), before, "{what}");

        let output = portguard.run(&lists.arguments(line));
        let after = lists.after(&before, line);
        if after.mode == before.mode {
            tried.renewed += 1;
            assert_eq!(output.code, 0, "{what}: {output:?}");
            assert_eq!(seen(&guarded, &portguard.status(), default_sources), after, "{what}");
            let told = lists.told(&before, &after, default_sources);
            assert_eq!(changes(&output.stdout), told, "{what}: {output:?}");
            guarded.machine.assert_tidy(1);
        } else {
            tried.refused += 1;
            assert_eq!((output.code, &*output.stdout), (1, ""), "{what}: {output:?}");
            let ways = ["portguard detach eth0", "portguard attach eth0 --hook tcx"];
            assert!(ways.iter().any(|way| output.stderr.contains(way)), "{what}: {output:?}");
            let sources = before.sources.unwrap_or(default_sources);
            assert_unchanged(&guarded.machine, &status, sources, &portguard.status(), &what);
        }
        portguard.ok(&["detach", IFACE]);
    }
    tried
}

/// What guards that were attached with a line are renewed with: every line, if that was all default or all different;
/// and else the lines that name nothing, one part, or every part that may change.
fn renewals(first: Line) -> Vec<Line> {
    let mut renewals = lines([Named::Not, Named::Usual, Named::Other]);
    if first.iter().any(|named| *named != first[0]) {
        renewals.retain(|line| {
            let [list, mode, audit, sources] = *line;
            let named = line.iter().filter(|named| **named != Named::Not).count();
            named <= 1 || (mode == Named::Not && list == audit && audit == sources && named == 3)
        });
    }
    renewals
}

#[test]
fn a_renewal_changes_what_it_names_and_nothing_else_and_reports_each_change() {
    let firsts = lines([Named::Not, Named::Other]);
    // Most of the time is spent waiting for the kernel.
    let tried: Vec<Tried> = thread::scope(|scope| {
        let hosts: Vec<_> =
            firsts.iter().map(|&first| scope.spawn(move || try_each(first, &renewals(first)))).collect();
        hosts.into_iter().map(|host| host.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let renewed: u32 = tried.iter().map(|tried| tried.renewed).sum();
    let refused: u32 = tried.iter().map(|tried| tried.refused).sum();
    // Of two guards all 81 lines, of which 27 name the other mode; of the others 11, of which one does.
    assert_eq!((renewed, refused), (2 * 54 + 14 * 10, 2 * 27 + 14));
}
