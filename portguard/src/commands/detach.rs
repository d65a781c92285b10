//! `portguard detach`: takes the guard off.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Detach;
use crate::commands::{for_each, lock, print, unique};
use crate::error::Result;
use crate::guard::{self, Guard, Home};

/// Detaches from each of the interfaces, whatever happens to the others.
///
/// # Errors
/// The process is not permitted, or guards cannot be looked up; what goes wrong with one interface is printed.
pub fn run(args: &Detach, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let home = Home::find()?;
    let _lock = home.as_ref().map(lock).transpose()?;
    let mut detach = |guard: Result<Guard>| {
        let guard = guard?;
        guard::detach(&guard)?;
        print(out, &format!("{}: detached, port 111 is open\n", guard.interface().name))
    };
    let code = if args.all {
        for_each(Guard::all(home.as_ref())?, |guard| detach(Ok(guard)))
    } else {
        for_each(unique(&args.interfaces), |name| detach(Guard::by_name(home.as_ref(), name)))
    };
    if let Some(home) = &home {
        guard::sweep(home)?;
    }
    Ok(code)
}
