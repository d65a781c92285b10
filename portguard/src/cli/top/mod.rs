//! `portguard top`: what is allowed and dropped, live.

use std::process::ExitCode;
use std::time::Duration;

use crate::error::Result;
use crate::guard::{self, Guard, PinRoot};
use crate::top;

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Press ? for the keys, and q to leave.")]
pub struct Args {
    /// The interfaces to show [default: all guarded ones of this network namespace, updated while it runs]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// The time between two readings of the counters
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub interval: u16,
}

/// Shows the guards until the user leaves.
///
/// # Errors
/// There is no terminal, the process is not permitted, or a named interface has no guard at the start. Guards that go
/// later are shown as gone.
pub fn run(args: &Args) -> Result<ExitCode> {
    top::terminal::require()?;
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    for name in &args.interfaces {
        Guard::by_name(pin_root.as_ref(), name)?;
    }
    top::run(args.interfaces.clone(), Duration::from_secs(args.interval.into()))?;
    Ok(ExitCode::SUCCESS)
}
