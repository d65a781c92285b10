//! The results that were committed last, and how those of now stand to them.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use portguard_testkit::built::workspace;
use serde::{Deserialize, Serialize};

use super::results::{Case, Loading, Machine, Operation, Results, TestProgram};

/// What of the results is committed, below the root of the workspace.
const FILE: &str = "docs/performance.json";

/// What is compared: portguard's own figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Committed {
    /// Where they were measured.
    pub(super) machine: Machine,
    /// The case, its cost over the bare program, and that in nanoseconds.
    cases: Vec<(Case, f64, f64)>,
    /// What an operation with a list took, in milliseconds.
    operations: Vec<(String, f64)>,
}

/// A figure of before and now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Compared {
    /// What it is of.
    pub(super) what: String,
    /// Before.
    pub(super) before: f64,
    /// Now.
    pub(super) now: f64,
}

impl Committed {
    /// Those of these results.
    pub(super) fn of(results: &Results) -> Self {
        let own = results.cases.iter().filter(|row| row.tested == TestProgram::Portguard);
        let cases = own.map(|row| (row.case, rounded(row.ratio.median), rounded(row.over.median)));
        let operations = results.loading.iter().flat_map(|loading: &Loading| {
            let Loading { family, list, .. } = loading;
            let operations =
                [Operation::Check, Operation::Attach, Operation::Reload, Operation::ReloadHundredth];
            operations.into_iter().filter_map(move |operation| {
                let name = format!("{operation}, {family}, {list} prefixes");
                Some((name, rounded(loading.wall(operation)?)))
            })
        });
        Self { machine: results.machine.clone(), cases: cases.collect(), operations: operations.collect() }
    }

    /// Those of the last commit; `None` if it has none that this bench can read.
    pub(super) fn last() -> Result<Option<Self>> {
        let mut git = Command::new("git");
        git.arg("-C").arg(workspace()).args(["show", &format!("HEAD:{FILE}")]).stderr(Stdio::null());
        let output = git.output().context("cannot run git")?;
        Ok(serde_json::from_slice(&output.stdout).ok())
    }

    /// Writes them to where they are committed from.
    pub(super) fn write(&self) -> Result<()> {
        let text = serde_json::to_string(self)?.replace("],[", "],\n[") + "\n";
        std::fs::write(workspace().join(FILE), text).with_context(|| format!("cannot write {FILE}"))
    }

    /// Each figure that both have. Times in nanoseconds are over the bare program: ratios of two machines do not compare, because
    /// bare programs differ more than others.
    pub(super) fn compared(&self, now: &Self) -> Vec<Compared> {
        let cases = self.cases.iter().filter_map(|(case, _, before)| {
            let (_, _, now) = now.cases.iter().find(|(same, ..)| same == case)?;
            let tag = if case.tagged { ", VLAN" } else { "" };
            let Case { family, sources, source_count, list, .. } = case;
            let what = format!("{family}{tag}, {sources}, {source_count} sources, {list} prefixes, ns");
            Some(Compared { what, before: *before, now: *now })
        });
        let operations = self.operations.iter().filter_map(|(name, before)| {
            let (_, now) = now.operations.iter().find(|(same, _)| same == name)?;
            Some(Compared { what: format!("{name}, ms"), before: *before, now: *now })
        });
        cases.chain(operations).collect()
    }
}

/// A figure with no more digits than it is worth.
fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::super::results::{Family, Measured, Sources};
    use super::super::spread::Spread;
    use super::*;

    #[test]
    fn figures_that_both_have_are_compared_over_the_bare_program() {
        let case = |list| Case {
            family: Family::V6,
            tagged: false,
            sources: Sources::Denied,
            source_count: 16,
            list,
        };
        let measured = |list, nanoseconds: f64, ratio: f64| Measured {
            case: case(list),
            tested: TestProgram::Portguard,
            nanoseconds: Spread::of([nanoseconds]),
            ratio: Spread::of([ratio]),
            over: Spread::of([nanoseconds - nanoseconds / ratio]),
            repeats: 1,
            disturbed: 0,
            rounds: 1,
            left_out: 0,
        };
        let of = |cases: Vec<Measured>| Committed::of(&Results { cases, ..Results::default() });
        let before = of(vec![measured(10, 30.0, 3.0), measured(100, 30.0, 3.0)]);
        let now = of(vec![measured(10, 20.0, 2.0)]);
        let what = "IPv6, denied, random sources, 16 sources, 10 prefixes, ns".to_owned();
        assert_eq!(before.compared(&now), [Compared { what, before: 20.0, now: 10.0 }]);
        let text = serde_json::to_string(&before).expect("JSON");
        assert_eq!(serde_json::from_str::<Committed>(&text).expect("read again"), before);
    }
}
