//! `portguard check`: validates an allowlist without touching the kernel.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::allowlist::{Allowlist, Checked, Diagnostic, Diagnostics, Invalid, Style, printable};
use crate::cli::Check;
use crate::commands::{print_json, unwritten};
use crate::error::{Kind, Result};

/// Validates the allowlist at `args.path`, prints what is wrong with it, or what it holds.
///
/// # Errors
/// The list is invalid, or its file cannot be read.
pub fn run(args: &Check, out: &mut dyn Write) -> Result<ExitCode> {
    let checked = Allowlist::load(&args.path);
    if args.json {
        let code =
            if checked.is_ok() { ExitCode::SUCCESS } else { Kind::InvalidAllowlist.exit_code().into() };
        print_json(out, &Report::new(args, &checked))?;
        return Ok(code);
    }
    let Checked { allowlist, warnings } = checked?;
    eprint!("{}", warnings.render(Style::of(&io::stderr())));
    writeln!(
        out,
        "{}: {} {} ({} IPv4, {} IPv6), {}",
        printable(&args.path.to_string_lossy()),
        allowlist.entries().len(),
        if allowlist.entries().len() == 1 { "entry" } else { "entries" },
        allowlist.prefixes_v4(),
        allowlist.prefixes_v6(),
        warnings.count(),
    )
    .map_err(unwritten)?;
    Ok(ExitCode::SUCCESS)
}

/// The document of `check --json`. Fields may be added; none is renamed or removed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: u32,
    path: PathBuf,
    valid: bool,
    /// Absent (null) if the file cannot be read.
    sha256: Option<String>,
    /// Absent (null) if the list is invalid, as is the next one.
    prefixes_v4: Option<usize>,
    prefixes_v6: Option<usize>,
    /// The first ones; there may be more.
    errors: Vec<Problem<'a>>,
    errors_total: usize,
    /// The first ones; there may be more.
    warnings: Vec<Problem<'a>>,
    warnings_total: usize,
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

impl<'a> Report<'a> {
    fn new(args: &Check, checked: &'a Result<Checked, Box<Invalid>>) -> Self {
        let (allowlist, sha256, errors, warnings) = match checked {
            Ok(Checked { allowlist, warnings }) => {
                (Some(allowlist), Some(allowlist.sha256()), None, warnings)
            }
            Err(invalid) => (None, invalid.sha256, Some(&invalid.errors), &invalid.warnings),
        };
        Self {
            schema: 1,
            path: std::path::absolute(&args.path).unwrap_or_else(|_| args.path.clone()),
            valid: allowlist.is_some(),
            sha256: sha256.map(|sha256| sha256.to_string()),
            prefixes_v4: allowlist.map(Allowlist::prefixes_v4),
            prefixes_v6: allowlist.map(Allowlist::prefixes_v6),
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
