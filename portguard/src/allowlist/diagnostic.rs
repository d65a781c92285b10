//! Problems of an allowlist, and the one renderer that shows them, as rustc shows its own.
//!
//! (annotate-snippets cannot name the column in a line of which it is given only a part, and a list may be one line of
//! many megabytes.)

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use portguard_common::listed;
use unicode_width::UnicodeWidthStr as _;

use crate::printable::printable;

/// How many problems of a kind are kept and shown: the first ones of the file. All are counted.
const MAX_SHOWN: usize = 20;

listed! {
    /// Whether a list with this problem can be used.
    pub enum Severity {
        /// It cannot.
        Error = "error",
        /// It can, but hardly does what was meant.
        Warning = "warning",
    }
}

/// Whether to colour what is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text without control codes.
    Plain,
    /// Coloured by ANSI escape codes.
    Coloured,
}

/// A place in the file, with what a reader needs to see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1 on.
    pub line: u32,
    /// In characters, from 1 on.
    pub column: u32,
    /// The offending text; the end of a long one is cut off.
    pub text: String,
    /// The line of the file, or the part of it around the offending text.
    pub(super) excerpt: String,
    /// The offending text in `excerpt`, in bytes.
    pub(super) marked: Range<usize>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where it is; none if it is the file as a whole.
    pub place: Option<Place>,
}

impl Diagnostic {
    /// The problem, and an empty line.
    fn render(&self, path: &Path, style: Style) -> String {
        let level = self.severity.key();
        let colour = match self.severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
        };
        let [title, bold, frame] = match style {
            Style::Plain => [anstyle::Style::new(); 3],
            Style::Coloured => [
                colour.on_default().bold(),
                anstyle::Style::new().bold(),
                AnsiColor::Blue.on_default().bold(),
            ],
        };
        let path = printable(&path.to_string_lossy());
        let mut text = format!("{title}{level}{title:#}{bold}: {}{bold:#}\n", self.message);
        let mut draw = |margin: &str, sign: &str, rest: &str| {
            let blank = if rest.is_empty() { "" } else { " " };
            text += &format!("{frame}{margin}{sign}{frame:#}{blank}{rest}\n");
        };
        let margin = match &self.place {
            None => {
                draw(" ", "-->", &path);
                " ".to_owned()
            }
            Some(place) => {
                let Place { line, column, .. } = place;
                let number = line.to_string();
                let margin = " ".repeat(number.len());
                let (excerpt, marks) = place.draw();
                draw(&margin, "-->", &format!("{path}:{line}:{column}"));
                draw(&margin, " |", "");
                draw(&number, " |", &excerpt);
                draw(&margin, " |", &format!("{title}{marks}{title:#}"));
                margin
            }
        };
        if let Some(help) = &self.help {
            draw(&margin, " =", &format!("{bold}help{bold:#}: {help}"));
        }
        text + "\n"
    }
}

impl Place {
    /// The excerpt in one line of printable characters, and the marks to go below the offending text.
    fn draw(&self) -> (String, String) {
        let shown = |text: &str| printable(&text.replace('\t', "    "));
        let Range { start, end } = self.marked;
        let [before, marked, after] =
            [&self.excerpt[..start], &self.excerpt[start..end], &self.excerpt[end..]].map(shown);
        let marks = " ".repeat(before.width()) + &"^".repeat(marked.width().max(1));
        ((before + &marked + &after).trim_end().to_owned(), marks)
    }
}

/// The problems of one severity with one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    path: PathBuf,
    /// By line, column and order of discovery.
    first: BTreeMap<(u32, u32, usize), Diagnostic>,
    total: usize,
}

impl Diagnostics {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), first: BTreeMap::new(), total: 0 }
    }

    /// Adds a problem.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        let (line, column) = diagnostic.place.as_ref().map_or((0, 0), |place| (place.line, place.column));
        self.push_with(line, column, || diagnostic);
    }

    /// Adds a problem at that line and column; it is only built if it is one of those to be shown.
    pub(super) fn push_with(&mut self, line: u32, column: u32, build: impl FnOnce() -> Diagnostic) {
        let key = (line, column, self.total);
        self.total += 1;
        if self.first.len() == MAX_SHOWN {
            if self.first.last_key_value().is_some_and(|(last, _)| *last < key) {
                return;
            }
            self.first.pop_last();
        }
        self.first.insert(key, build());
    }

    /// The first problems of the file, in its order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.first.values()
    }

    /// How many problems there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many problems there are, in words: `2 errors`.
    pub fn count(&self) -> impl fmt::Display {
        self.counted(self.total, "")
    }

    fn counted(&self, count: usize, more: &str) -> String {
        let first = self.iter().next().map(|diagnostic| diagnostic.severity);
        let what = first.unwrap_or(Severity::Warning).key();
        format!("{count} {more}{what}{}", if count == 1 { "" } else { "s" })
    }

    /// The problems as rustc would show them, an empty line after each, and how many more there are.
    pub fn render(&self, style: Style) -> String {
        let mut text: String = self.iter().map(|diagnostic| diagnostic.render(&self.path, style)).collect();
        let hidden = self.total - self.first.len();
        if hidden > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "... and {}\n", self.counted(hidden, "more "));
        }
        text
    }
}
