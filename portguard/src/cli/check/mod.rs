//! `portguard check`: validates an allowlist without touching the kernel.

mod document;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use self::document::Document;
use crate::allowlist::{Allowlist, Checked, DEFAULT_PATH};
use crate::cli::print::{print_json, unwritten};
use crate::error::{Kind, Result};
use crate::ops::{Console as _, Message};
use crate::printable::printable;
use crate::term::Stderr;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The allowlist to validate
    #[arg(value_name = "PATH", env = "PORTGUARD_ALLOWLIST", default_value = DEFAULT_PATH)]
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Validates the allowlist at `args.path`, prints what is wrong with it, or what it holds.
///
/// # Errors
/// The list is invalid, or its file cannot be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let checked = Allowlist::load(&args.path);
    if args.json {
        let code =
            if checked.is_ok() { ExitCode::SUCCESS } else { Kind::InvalidAllowlist.exit_code().into() };
        print_json(out, &Document::new(&args.path, &checked))?;
        return Ok(code);
    }
    let Checked { allowlist, warnings } = checked?;
    Stderr.show(&Message::ListWarnings(warnings.clone()));
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
