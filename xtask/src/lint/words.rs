//! Words that the glossary says are not used.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::vm_test::output;
use crate::workspace;

/// Where they are, below the root of the workspace, and the heading of their table.
const GLOSSARY: &str = "docs/glossary.md";
const HEADING: &str = "## Words that are not used";

/// Fails, with each place, if Rust code has one of them.
pub(super) fn check() -> Result<()> {
    let glossary = fs::read_to_string(workspace().join(GLOSSARY)).context("cannot read the glossary")?;
    let words = unused(&glossary);
    ensure!(!words.is_empty(), "{GLOSSARY} lists no words that are not used");
    let files = output(Command::new("git").args(["ls-files", "*.rs"]).current_dir(workspace()))?;
    let mut found = Vec::new();
    for file in files.lines() {
        // One that was just removed.
        let Ok(text) = fs::read_to_string(workspace().join(file)) else { continue };
        found.extend(places(&text, &words).map(|(line, word)| format!("{file}:{line}: {word}")));
    }
    if !found.is_empty() {
        bail!("words that {GLOSSARY} replaces by others:\n  {}", found.join("\n  "));
    }
    Ok(())
}

/// The first column of the table.
fn unused(glossary: &str) -> Vec<&str> {
    let table = glossary.split_once(HEADING).map(|(_, table)| table).unwrap_or_default();
    let cell = |line: &'_ str| -> Option<usize> { line.strip_prefix("| ").and_then(|rest| rest.find(" |")) };
    let rows = table.lines().filter_map(|line| cell(line).and_then(|length| line.get(2..2 + length)));
    rows.filter(|word| *word != "not").collect()
}

/// The lines, counted from 1, that have one of the words, whole.
fn places<'a>(text: &'a str, words: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    (1..).zip(text.lines()).flat_map(move |(number, line)| {
        let has = move |word: &&&str| line.split(|character| !is_part(character)).any(|part| part == **word);
        words.iter().filter(has).map(move |word| (number, *word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# It\n\n| term | meaning |\n|---|---|\n| frame | what comes |\n\n## Words that are not used\n\n\
                        | not | but |\n|---|---|\n| Kourt | Datapath |\n| rubbles | leftovers |\n";

    #[test]
    fn the_words_are_those_of_that_table_alone() {
        assert_eq!(unused(TEXT), ["Kourt", "rubbles"]);
        assert_eq!(unused("# It\n"), [""; 0]);
    }

    #[test]
    fn only_whole_words_are_found() {
        let words = unused(TEXT);
        let found: Vec<_> =
            places("struct Kourt;\nfn kourtyard() {}\n// rubbles!\nKourtHouse\n", &words).collect();
        assert_eq!(found, [(1, "Kourt"), (3, "rubbles")]);
    }
}
