//! `portguard run`: keeps interfaces guarded, as a service.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{DEFAULT_ALLOWLIST, Run};
use crate::error::Result;
use crate::guard::{LogLimit, Options};
use crate::service;

/// Guards the interfaces until it is told to stop; the guards stay on after that.
///
/// # Errors
/// What [`crate::commands::attach`] fails for, at the start. Whatever goes wrong later is told, and the guards stay as
/// they are.
pub fn run(args: &Run) -> Result<ExitCode> {
    let path = args.allowlist.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_ALLOWLIST));
    let log = if args.log_drops { LogLimit::PerSecond(args.log_rate) } else { LogLimit::Off };
    let options = Options { log: Some(log), ..Options::from(&args.guard) };
    let log = args.log_drops.then_some(args.log_format);
    service::run(&args.interfaces, path, options, log, args.metrics)?;
    Ok(ExitCode::SUCCESS)
}
