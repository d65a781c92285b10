//! `docs/performance.md`: the words in it are written by people, the figures between its marks by this command.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::built::workspace;
use portguard_testkit::document;

use super::results::{Measured, Results};
use super::table;

/// The document, below the root of the workspace.
const DOCUMENT: &str = "docs/performance.md";

/// A place for figures.
type Section = (&'static str, fn(&Results) -> String);

/// The places, each by its mark.
const SECTIONS: [Section; 11] = [
    ("machine", machine),
    ("goals", |results| table::of_goals(results).markdown()),
    ("cases", |results| table::of_cases(results).markdown()),
    ("lists", |results| table::of_lists(results).markdown()),
    ("sources", |results| table::of_sources(results).markdown()),
    ("wire", |results| table::of_wire(results).markdown()),
    ("loading", |results| table::of_loading(results).markdown()),
    ("reading", |results| table::of_reading(results).markdown()),
    ("scaling", |results| table::of_scaling(results).markdown()),
    ("trie", |results| table::of_trie(results).markdown()),
    ("nft", |results| format!("{}, Linux {}.\n", results.nft, results.machine.kernel)),
];

/// Writes the results into the document.
pub(super) fn write(results: &Results) -> Result<()> {
    let path = path();
    let mut document = read()?;
    for (key, figures) in SECTIONS {
        document = replaced(&document, key, &figures(results))?;
    }
    fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("bench: written to {}", path.display());
    Ok(())
}

fn read() -> Result<String> {
    let path = path();
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn path() -> PathBuf {
    workspace().join(DOCUMENT)
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let sum = |figure: fn(&Measured) -> u32| results.cases.iter().map(figure).sum::<u32>();
    let (rounds, left_out) = (sum(|row| row.rounds), sum(|row| row.left_out));
    format!(
        "{}, Linux {}, {} CPUs ({}), portguard at {}{}. Of {rounds} rounds of one program with one frame, {left_out} are not in the figures: \
         the host was in a slow phase.\n",
        machine.date,
        machine.kernel,
        machine.cpus,
        machine.cpu,
        machine.commit,
        if machine.quick { ", in the short form" } else { "" }
    )
}

/// The document with other figures between the marks of a section.
fn replaced(document: &str, key: &str, figures: &str) -> Result<String> {
    ensure!(!figures.contains("<!--"), "figures are no marks");
    document::replaced(document, key, figures).with_context(|| format!("{DOCUMENT} has no marks of {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_place_for_each_section() {
        let mut document = read().unwrap();
        for (key, figures) in SECTIONS {
            document = replaced(&document, key, &figures(&Results::default())).unwrap();
        }
    }
}
