//! Documents whose words people write, and whose figures commands write between marks: `<!-- KEY -->` and
//! `<!-- end of KEY -->`. Figures remain until their command runs again.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::built::workspace;
use crate::figures::Figures;

/// A document with figures, by its path below the root of the workspace.
#[derive(Debug, Clone, Copy)]
pub struct Document(pub &'static str);

impl Document {
    /// Writes new figures between the marks of `key`, with the date and the kernel.
    pub fn write(self, key: &str, figures: &str) -> Result<()> {
        replace(self.0, key, &format!("{figures}\n{}, Linux {}.\n", today()?, kernel()?))
    }

    /// The figures between the marks of `key`, as they stand in the document.
    pub fn read(self, key: &str) -> Option<String> {
        let document = fs::read_to_string(workspace().join(self.0)).ok()?;
        parts(&document, key).map(|[_, figures, _]| figures.to_owned())
    }
}

/// Replaces what is between two marks of a document whose words people write: `<!-- KEY -->` and `<!-- end of KEY -->`.
pub fn replace(path: &str, key: &str, text: &str) -> Result<()> {
    let file = workspace().join(path);
    let document = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
    let replaced = replaced(&document, key, text).with_context(|| format!("{path} has no marks of {key}"))?;
    fs::write(&file, replaced).with_context(|| format!("cannot write {path}"))?;
    eprintln!("written to {path}");
    Ok(())
}

/// The document with another text between two marks, if it has them.
pub fn replaced(document: &str, key: &str, text: &str) -> Option<String> {
    parts(document, key).map(|[head, _, tail]| [head, text, tail].concat())
}

/// The parts of a document: up to the first mark and with it, between the marks, and from the second mark on.
fn parts<'a>(document: &'a str, key: &str) -> Option<[&'a str; 3]> {
    let begin = format!("<!-- {key} -->\n");
    let (head, rest) = document.split_at(document.find(&begin)? + begin.len());
    let (figures, tail) = rest.split_at(rest.find(&format!("<!-- end of {key} -->\n"))?);
    Some([head, figures, tail])
}

/// A table of figures.
pub fn rows(figures: &Figures) -> String {
    let row = |(name, number): &(String, u64)| format!("| {name} | {} |\n", grouped(*number));
    let rows: String = figures.numbers().iter().map(row).collect();
    format!("| | |\n|---|---:|\n{rows}")
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn kernel() -> Result<String> {
    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    Ok(fs::read_to_string(RELEASE).with_context(|| format!("cannot read {RELEASE}"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "# It\n<!-- one -->\nold\n<!-- end of one -->\nMore words.\n";
        let expected = "# It\n<!-- one -->\nnew\n<!-- end of one -->\nMore words.\n";
        assert_eq!(replaced(document, "one", "new\n").as_deref(), Some(expected));
        assert_eq!(replaced(document, "other", "new\n"), None);
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (10_000_000, "10,000,000")] {
            assert_eq!(grouped(number), text);
        }
    }
}
