//! What is wrong with an allowlist, or what it holds.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::STDIN;
use crate::allowlist::{Allowlist, Checked, Diagnostic, Diagnostics, Entry, Invalid, absolute};
use crate::printable::serialize_path;

/// The document of `check --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    /// The absolute path of the file; `-` if it is standard input.
    #[serde(serialize_with = "serialize_path")]
    path: PathBuf,
    valid: bool,
    /// Absent (null) if the file cannot be read.
    sha256: Option<String>,
    /// Absent (null) if the list is invalid, as is the next one.
    prefixes_v4: Option<usize>,
    prefixes_v6: Option<usize>,
    /// The calls that it permits over UDP; absent (null) if the list is invalid.
    udp: Option<&'static str>,
    /// How many entries have conditions; absent (null) if the list is invalid.
    conditions: Option<Counts>,
    /// The interfaces that entries name, and that this host does not have.
    absent_interfaces: Vec<&'a str>,
    /// The first ones; there may be more.
    errors: Vec<Problem<'a>>,
    errors_total: usize,
    /// The first ones; there may be more.
    warnings: Vec<Problem<'a>>,
    warnings_total: usize,
}

/// How many entries have a condition.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// Any.
    entries: usize,
    interfaces: usize,
    until: usize,
    udp: usize,
    rate: usize,
}

impl Counts {
    fn of(list: &Allowlist) -> Self {
        let mut counts = Self::default();
        for conditions in list.entries().iter().filter_map(Entry::conditions) {
            counts.entries += 1;
            counts.interfaces += usize::from(conditions.interfaces.is_some());
            counts.until += usize::from(conditions.until.is_some());
            counts.udp += usize::from(conditions.udp.is_some());
            counts.rate += usize::from(conditions.rate.is_some());
        }
        counts
    }
}

#[derive(Debug, Serialize)]
struct Problem<'a> {
    /// Absent (null) if the problem is the file as a whole, as are the next two.
    line: Option<u32>,
    column: Option<u32>,
    text: Option<&'a str>,
    message: &'a str,
    help: Option<&'a str>,
}

impl<'a> Document<'a> {
    pub(super) fn new(
        path: &Path,
        checked: &'a Result<Checked, Box<Invalid>>,
        absent_interfaces: Vec<&'a str>,
    ) -> Self {
        let (allowlist, sha256, errors, warnings) = match checked {
            Ok(Checked { allowlist, warnings }) => {
                (Some(allowlist), Some(allowlist.sha256()), None, warnings)
            }
            Err(invalid) => (None, invalid.sha256, Some(&invalid.errors), &invalid.warnings),
        };
        Self {
            schema: 1,
            path: if path == Path::new(STDIN) { path.to_owned() } else { absolute(path) },
            valid: allowlist.is_some(),
            sha256: sha256.map(|sha256| sha256.to_string()),
            prefixes_v4: allowlist.map(Allowlist::prefixes_v4),
            prefixes_v6: allowlist.map(Allowlist::prefixes_v6),
            udp: allowlist.map(|list| list.udp_calls().key()),
            conditions: allowlist.map(Counts::of),
            absent_interfaces,
            errors: errors.map_or_else(Vec::new, problems),
            errors_total: errors.map_or(0, Diagnostics::total),
            warnings: problems(warnings),
            warnings_total: warnings.total(),
        }
    }
}

fn problems(diagnostics: &Diagnostics) -> Vec<Problem<'_>> {
    diagnostics.iter().map(Problem::from).collect()
}

impl<'a> From<&'a Diagnostic> for Problem<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        let place = diagnostic.place.as_ref();
        Self {
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            text: place.map(|place| &*place.text),
            message: &diagnostic.message,
            help: diagnostic.help.as_deref(),
        }
    }
}
