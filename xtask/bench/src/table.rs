//! Results as rows of text, for the terminal and for the document.

use comfy_table::Table as Drawn;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use portguard_testkit::document::grouped;

use super::comparison::Compared;
use super::goals::goals;
use super::results::{Case, Family, Machine, Measured, Operation, Results, Sources, TestProgram};
use super::test_run::LIST;

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// For a terminal.
    pub(super) fn drawn(&self) -> String {
        let mut drawn = Drawn::new();
        drawn.load_style(UTF8_FULL_CONDENSED).set_header(&self.head);
        for row in &self.rows {
            drawn.add_row(row);
        }
        drawn.to_string()
    }

    /// For a document.
    pub(super) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|---|{}\n", "---:|".repeat(self.head.len().saturating_sub(1)));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.head) + &rule + &rows
    }
}

/// What the figures of now are compared with.
pub(super) fn heading(last: &Machine) -> String {
    format!(
        "Compared with the results that were committed last ({}, {}, Linux {}, {}); absolute times hold for one machine only.",
        last.commit, last.date, last.kernel, last.cpu
    )
}

/// Figures of before and now.
pub(super) fn of_comparison(compared: &[Compared]) -> Table {
    let mut table = Table::new(&["", "before", "now", "now/before"]);
    for Compared { what, before, now } in compared {
        table.row([
            what.clone(),
            format!("{before:.1}"),
            format!("{now:.1}"),
            format!("{:.2}", now / before),
        ]);
    }
    table
}

/// The goals, and what has become of them.
pub(super) fn of_goals(results: &Results) -> Table {
    let mut table = Table::new(&["", "goal", "measured", ""]);
    for goal in goals(results) {
        table.row([goal.what.to_owned(), goal.bound.to_string(), goal.shown(), goal.verdict().to_string()]);
    }
    table
}

/// One frame after the other, with the list that is not large, from one source or a flood of them.
pub(super) fn of_cases(results: &Results) -> Table {
    let is_basic = |case: &Case| {
        case.list == LIST
            && (case.sources.are_one()
                || case.sources.need_own_table()
                || case.sources == Sources::Denied && case.source_count == results.machine.flood)
    };
    by_contender(results, &["IP", "packets"], is_basic, |case| {
        let tag = if case.tagged { ", VLAN" } else { "" };
        vec![format!("{}{tag}", case.family), case.sources.to_string()]
    })
}

/// By the size of the list.
pub(super) fn of_lists(results: &Results) -> Table {
    let is_of_lists = |case: &Case| match case.sources {
        Sources::Denied => case.source_count == results.machine.flood,
        Sources::Allowed | Sources::Neighbours => true,
        _ => false,
    };
    by_contender(results, &["IP", "packets", "prefixes"], is_of_lists, |case| {
        vec![case.family.to_string(), case.sources.to_string(), count(case.list)]
    })
}

/// By the number of sources.
pub(super) fn of_sources(results: &Results) -> Table {
    let is_one = |case: &Case| case.sources == Sources::Denied && case.list == LIST;
    by_contender(results, &["IP", "sources"], is_one, |case| {
        vec![case.family.to_string(), count(case.source_count)]
    })
}

/// A column for each program, a row for each case.
fn by_contender(
    results: &Results,
    head: &[&str],
    belongs: impl Fn(&Case) -> bool,
    name: impl Fn(&Case) -> Vec<String>,
) -> Table {
    let mut cases: Vec<Case> =
        results.cases.iter().map(|row| row.case).filter(|case| belongs(case)).collect();
    cases.sort_unstable();
    cases.dedup();
    let tested: Vec<TestProgram> = TestProgram::ALL
        .into_iter()
        .filter(|tested| cases.iter().any(|case| results.case(*tested, *case).is_some()))
        .collect();
    let mut table = Table::new(head);
    table.head.extend(tested.iter().map(ToString::to_string));
    for case in cases {
        let mut row = name(&case);
        for tested in &tested {
            row.push(results.case(*tested, case).map_or_else(|| "-".to_owned(), cell));
        }
        table.rows.push(row);
    }
    table
}

/// The bare program in nanoseconds, the others over it.
fn cell(row: &Measured) -> String {
    match row.tested {
        TestProgram::Bare => format!("{:.1} ns", row.nanoseconds.median),
        _ => format!("{:.2}", row.ratio),
    }
}

/// Floods of real frames.
pub(super) fn of_wire(results: &Results) -> Table {
    let mut table = Table::new(&[
        "at the end of the wire",
        "M packets/s",
        "CPU ns a packet",
        "over bare native",
        "taken in",
        "dropped by its rule",
    ]);
    for row in &results.wire {
        table.row([
            row.firewall.to_string(),
            format!("{:.2}", row.packets_per_second.scaled(1e-6)),
            format!("{:.0}", row.nanoseconds),
            format!("{:.2}", row.ratio),
            format!("{:.1} %", row.arrived.median * 100.0),
            row.counted.map_or_else(|| "does not count".to_owned(), count),
        ]);
    }
    table
}

/// Lists of all sizes.
pub(super) fn of_loading(results: &Results) -> Table {
    let operations = [
        Operation::Check,
        Operation::Attach,
        Operation::Reload,
        Operation::ReloadHundredth,
        Operation::Stats,
    ];
    let mut table = Table::new(&["IP", "prefixes"]);
    table.head.extend(operations.map(|operation| format!("{operation}, ms (user + system)")));
    table.head.extend(["others wait, ms".to_owned(), "most memory, MiB".to_owned()]);
    for row in &results.loading {
        let mut cells = vec![row.family.to_string(), count(row.list)];
        for operation in operations {
            let timing = row.timings.iter().find(|timing| timing.operation == operation);
            cells.push(timing.map_or_else(String::new, |timing| {
                format!("{:.0} ({:.0} + {:.0})", timing.wall.median, timing.user.median, timing.system.median)
            }));
        }
        cells.push(format!("{:.1}", row.wait));
        let memory = row.timings.iter().map(|timing| timing.memory).max().unwrap_or_default();
        cells.push((memory >> 20).to_string());
        table.rows.push(cells);
    }
    table
}

/// Many sources.
pub(super) fn of_reading(results: &Results) -> Table {
    let mut table = Table::new(&["", "ms"]);
    if let Some(reading) = results.reading {
        table.row([
            format!("`status --json`, {} sources", count(reading.sources)),
            format!("{:.1}", reading.status),
        ]);
        table.row(["`stats --json --top 0`".to_owned(), format!("{:.1}", reading.read)]);
        table.row(["the difference: reading alone".to_owned(), format!("{:.1}", reading.read_alone)]);
        table.row(["`stats --json`: printing all of them, too".to_owned(), format!("{:.1}", reading.print)]);
    }
    table
}

/// The kernel's trie.
pub(super) fn of_trie(results: &Results) -> Table {
    let mut table = Table::new(&["hosts in the trie", "a look-up, ns"]);
    for row in &results.trie {
        table.row([count(row.entries), format!("{:.1}", row.nanoseconds)]);
    }
    table
}

/// Two CPUs.
pub(super) fn of_scaling(results: &Results) -> Table {
    let mut table = Table::new(&["", "one CPU, ns", "two at once, ns", "two over one"]);
    for row in &results.scaling {
        table.row([
            row.tested.to_string(),
            format!("{:.1}", row.alone),
            format!("{:.1}", row.both),
            format!("{:.2}", row.ratio),
        ]);
    }
    table
}

/// What was measured by the number of prefixes or sources, for a plot: for each program, points of both.
pub(super) fn points(
    results: &Results,
    family: Family,
    sources: Sources,
    by: fn(&Case) -> usize,
    belongs: impl Fn(&Case) -> bool,
) -> Vec<(TestProgram, Vec<(f64, f64)>)> {
    let of = |tested| {
        let mut points: Vec<(f64, f64)> = results
            .cases
            .iter()
            .filter(|row| row.tested == tested && row.case.family == family && !row.case.tagged)
            .filter(|row| row.case.sources == sources && belongs(&row.case))
            .map(|row| (by(&row.case) as f64, row.ratio.median))
            .collect();
        points.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        (tested, points)
    };
    TestProgram::ALL
        .into_iter()
        .filter(|tested| !matches!(tested, TestProgram::Bare | TestProgram::PortguardLookups))
        .map(of)
        .filter(|(_, points)| !points.is_empty())
        .collect()
}

/// A number with its thousands set apart.
fn count(number: impl TryInto<u64>) -> String {
    number.try_into().map_or_else(|_| String::new(), grouped)
}
