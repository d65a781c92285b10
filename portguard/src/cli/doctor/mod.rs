//! `portguard doctor`: what on this host works or stands in the way.

pub mod document;
pub mod text;

use std::io::Write;
use std::process::ExitCode;

use self::document::Document;
use crate::cli::print::{print, print_json};
use crate::doctor::{self, Status};
use crate::error::Result;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "doctor changes nothing. It exits with 1 if a check fails, and with 0 if no check fails, \
        even if there are warnings. Without root, it reports what it cannot check."
)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Prints what each check has found. The exit code is 1 if one of them is a failure.
///
/// # Errors
/// The findings cannot be printed. What cannot be looked at is a finding.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let document = Document::new(doctor::examine());
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &text::text(&document))?;
    }
    Ok(if document.status == Status::Failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
