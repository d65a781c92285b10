//! `portguard doctor`: what on this host works or stands in the way.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Doctor;
use crate::commands::{print, print_json};
use crate::doctor::{self, Status};
use crate::error::Result;
use crate::output;

/// Prints what each check has found. The exit code is 1 if one of them is a failure.
///
/// # Errors
/// The findings cannot be printed. What cannot be looked at is a finding.
pub fn run(args: &Doctor, out: &mut dyn Write) -> Result<ExitCode> {
    let document = output::doctor::Document::new(doctor::examine());
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &output::doctor::text(&document))?;
    }
    Ok(if document.status == Status::Failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
