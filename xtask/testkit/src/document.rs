//! Documents whose words are in the sources, and whose figures are those of the last run of each command: they stay
//! until it runs again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::built::workspace;
use crate::figures::Figures;

/// A document with figures.
#[derive(Debug)]
pub struct Document {
    /// Below the root of the workspace.
    pub path: &'static str,
    /// What it begins with.
    pub head: &'static str,
    /// Its parts, in order.
    pub sections: &'static [Section],
}

/// A part of a document, with figures of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Names its figures in the document.
    pub key: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What stands between heading and figures.
    pub words: &'static str,
    /// What makes its figures.
    pub command: &'static str,
}

impl Section {
    fn begin(self) -> String {
        format!("<!-- {} -->\n", self.key)
    }

    fn end(self) -> String {
        format!("<!-- end of {} -->\n", self.key)
    }

    /// Its figures in a document.
    fn figures(self, document: &str) -> Option<&str> {
        let (_, rest) = document.split_once(&self.begin())?;
        Some(rest.split_once(&self.end())?.0)
    }
}

impl Document {
    /// Writes down new figures of a section, with the date and the kernel.
    pub fn write(&self, section: Section, figures: &str) -> Result<()> {
        let path = self.path();
        let old = fs::read_to_string(&path).unwrap_or_default();
        let figures = format!("{figures}\n{}, Linux {}.\n", today()?, kernel()?);
        fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| fs::write(&path, self.render(&old, section, &figures)))
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("written to {}", self.path);
        Ok(())
    }

    /// The figures of a section as they stand in the document.
    pub fn read(&self, section: Section) -> Option<String> {
        let document = fs::read_to_string(self.path()).ok()?;
        section.figures(&document).map(str::to_owned)
    }

    fn path(&self) -> PathBuf {
        workspace().join(self.path)
    }

    fn render(&self, old: &str, new: Section, figures: &str) -> String {
        let mut document = self.head.to_owned();
        for section in self.sections.iter().copied() {
            let figures = if section == new { Some(figures) } else { section.figures(old) };
            let figures = figures.unwrap_or("Not run yet.\n");
            let Section { title, words, command, .. } = section;
            document += &format!(
                "\n## {title}\n\n{words}\n\n`{command}`:\n\n{}{figures}{}",
                section.begin(),
                section.end()
            );
        }
        document
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
    let (begin, end) = (format!("<!-- {key} -->\n"), format!("<!-- end of {key} -->\n"));
    let (head, rest) = document.split_once(&begin)?;
    let (_, tail) = rest.split_once(&end)?;
    Some([head, &begin, text, &end, tail].concat())
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

    const fn section(key: &'static str) -> Section {
        Section { key, title: "A title", words: "Words.", command: "cargo xtask it" }
    }

    const ONE: Section = section("one");
    const OTHER: Section = section("other");
    const THIRD: Section = section("third");
    const DOCUMENT: Document =
        Document { path: "docs/it.md", head: "# It\n", sections: &[ONE, OTHER, THIRD] };

    #[test]
    fn new_figures_replace_their_own_only() {
        let first = DOCUMENT.render("", ONE, "7 frames\n");
        let second = DOCUMENT.render(&first, OTHER, "8 frames\n");
        assert_eq!(ONE.figures(&second), Some("7 frames\n"));
        assert_eq!(OTHER.figures(&second), Some("8 frames\n"));
        assert_eq!(THIRD.figures(&second), Some("Not run yet.\n"));
        let third = DOCUMENT.render(&second, ONE, "9 frames\n");
        assert_eq!(ONE.figures(&third), Some("9 frames\n"));
        assert_eq!(third.matches("## ").count(), DOCUMENT.sections.len());
    }

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
