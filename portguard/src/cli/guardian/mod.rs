//! `portguard guardian`: the process that takes a change on trial back. `--confirm` starts it.

use std::process::ExitCode;
use std::sync::Arc;

use crate::error::Result;
use crate::ops::{Console, guardian};
use crate::term::Stderr;

/// Arguments of `guardian`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Distinguishes the change from others
    pub token: u64,
}

/// Watches over the change until it is confirmed or taken back.
///
/// # Errors
/// It cannot become a process of its own.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let console: Arc<dyn Console> = Arc::new(Stderr);
    guardian::watch(args.token, &console).map(|()| ExitCode::SUCCESS)
}
