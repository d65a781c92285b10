//! Problems of an allowlist, and the renderer that shows them in the form of rustc.
//!
//! (annotate-snippets cannot report the right column if it gets only a part of a line, and a list may be one line of
//! many megabytes.)

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use portguard_common::listed;
use unicode_width::UnicodeWidthStr as _;

use crate::printable::{counted, printable};

/// The most problems of one severity that are kept and shown: the first ones in the file. All problems are counted.
const MAX_SHOWN: usize = 20;

listed! {
    /// Whether a list with this problem can be used.
    pub enum Severity {
        /// The list cannot be used.
        Error = "error",
        /// The list can be used, but probably does not do what the user intends.
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

/// A place in the file, with an excerpt of the file around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line; the first one is 1.
    pub line: u32,
    /// The column in characters; the first one is 1.
    pub column: u32,
    /// The offending text; the end of a long one is cut off.
    pub text: String,
    /// The line of the file, or the part of it around the offending text.
    pub(super) excerpt: String,
    /// The range of the offending text in `excerpt`, in bytes.
    pub(super) marked: Range<usize>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the list can be used.
    pub severity: Severity,
    /// The problem, in one line.
    pub message: String,
    /// The advice for the user.
    pub help: Option<String>,
    /// The place of the problem; `None` if it concerns the whole file.
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
    /// The excerpt as one line of printable characters, and the marks for the line below it.
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

    /// Adds a problem at this line and column. `build` is called only if the problem is among those that are shown.
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

    /// The number of problems.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The number of problems as text: `2 errors`.
    pub fn count(&self) -> impl fmt::Display {
        counted(self.total as u64, self.noun())
    }

    fn noun(&self) -> &'static str {
        let first = self.iter().next().map(|diagnostic| diagnostic.severity);
        first.unwrap_or(Severity::Warning).key()
    }

    /// The problems in the form of rustc, with an empty line after each, and the number of those that are not shown.
    pub fn render(&self, style: Style) -> String {
        let mut text: String = self.iter().map(|diagnostic| diagnostic.render(&self.path, style)).collect();
        let hidden = self.total - self.first.len();
        if hidden > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "... and {}\n", counted(hidden as u64, &format!("more {}", self.noun())));
        }
        text
    }
}
