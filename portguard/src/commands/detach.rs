//! `portguard detach`: takes the guard off.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Detach;
use crate::commands::{NOTHING_GUARDED, for_each, lock, print, unique};
use crate::error::Result;
use crate::guard::{self, Home};
use crate::output;

/// Detaches from each of the interfaces, whatever happens to the others.
///
/// # Errors
/// The process is not permitted, or guards cannot be looked up; what goes wrong with one interface is printed.
pub fn run(args: &Detach, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let home = Home::find()?;
    let _lock = home.as_ref().map(lock).transpose()?;
    let names = if args.all { guard::guarded_names(home.as_ref())? } else { args.interfaces.clone() };
    if names.is_empty() {
        output::error::note(NOTHING_GUARDED);
    }
    let code = for_each(unique(&names), |name| {
        guard::detach(home.as_ref(), name)?;
        print(out, &format!("{name}: detached, port 111 is open\n"))
    });
    if let Some(home) = &home {
        guard::sweep(home)?;
    }
    Ok(code)
}
