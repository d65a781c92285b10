//! `portguard detach`: takes the guard off.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Detach;
use crate::commands::{NOTHING_GUARDED, finish, print_before};
use crate::error::Result;
use crate::guard::{self, Access, Home};
use crate::ops::{Messages, lock, unique};

/// Detaches from each of the interfaces, whatever happens to the others.
///
/// # Errors
/// The process is not permitted, or guards cannot be looked up; what goes wrong with one interface is printed.
pub fn run(args: &Detach, out: &mut dyn Write) -> Result<ExitCode> {
    let mut messages = Messages::new();
    match detach(args, &mut messages) {
        Ok(()) => finish(messages, out),
        Err(error) => print_before(messages, out, error),
    }
}

fn detach(args: &Detach, messages: &mut Messages) -> Result<()> {
    guard::require_privileges()?;
    let home = Home::find()?;
    let _lock = home.as_ref().map(|home| lock(home, Access::Change)).transpose()?;
    let names = if args.all { guard::guarded_names(home.as_ref())? } else { args.interfaces.clone() };
    if names.is_empty() {
        messages.note(NOTHING_GUARDED);
    }
    for name in unique(&names) {
        match guard::detach(home.as_ref(), name, &mut |event| messages.take(name, event)) {
            Ok(()) => messages.data(format!("{name}: detached, port 111 is open\n")),
            Err(error) => messages.error(error),
        }
    }
    match &home {
        Some(home) => guard::sweep(home, &mut |event| messages.take_of_leftovers(event)),
        None => Ok(()),
    }
}
