//! `portguard top`: what is allowed and dropped, live.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Top;
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot};
use crate::top;

/// Shows the guards until the user leaves.
///
/// # Errors
/// There is no terminal, the process is not permitted, or a named interface has no guard at the start. Guards that go
/// later are shown as gone.
pub fn run(args: &Top) -> Result<ExitCode> {
    top::terminal::require()?;
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    for name in &args.interfaces {
        Guard::by_name(pin_root.as_ref(), name)?;
    }
    top::run(args.interfaces.clone(), Duration::from_secs(args.interval.into()))?;
    Ok(ExitCode::SUCCESS)
}
