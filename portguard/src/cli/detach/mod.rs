//! `portguard detach`: takes the guard off.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::print::{NOTHING_GUARDED, finish, print_before};
use crate::error::Result;
use crate::guard::{self, PinRoot};
use crate::ops::owner::{owned, owner_of_name};
use crate::ops::trial::lock_to_change;
use crate::ops::{Messages, unique};
use crate::term;

/// Arguments of `detach`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "portguard detach <IFACE>...\n       portguard detach --all")]
pub struct Args {
    /// The interfaces to leave unguarded
    #[arg(value_name = "IFACE", required_unless_present = "all", conflicts_with = "all")]
    pub interfaces: Vec<String>,
    /// Every guarded interface of this network namespace
    #[arg(long)]
    pub all: bool,
}

/// Detaches from each of the interfaces, whatever happens to the others.
///
/// # Errors
/// The process is not permitted, or guards cannot be looked up; what goes wrong with one interface is printed.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut messages = term::messages();
    match detach(args, &mut messages) {
        Ok(()) => finish(messages, out),
        Err(error) => print_before(messages, out, error),
    }
}

fn detach(args: &Args, messages: &mut Messages) -> Result<()> {
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let names = || match args.all {
        true => guard::guarded_names(pin_root.as_ref()),
        false => Ok(args.interfaces.clone()),
    };
    // Asked before the lock is taken: a service may be waiting for it.
    let mut kept = Vec::new();
    for name in names()? {
        if let Some(service) = owner_of_name(&name, messages) {
            messages.error(owned(&name, "a portguard service keeps the guard on", &service));
            kept.push(name);
        }
    }
    let _lock = pin_root.as_ref().map(|pin_root| lock_to_change(pin_root, messages)).transpose()?;
    let names = names()?;
    if names.is_empty() {
        messages.note(NOTHING_GUARDED);
    }
    for name in unique(&names).into_iter().filter(|name| !kept.contains(name)) {
        match guard::detach(pin_root.as_ref(), name, &mut |event| messages.take(name, event)) {
            Ok(()) => messages.data(format!("{name}: detached, port 111 is open\n")),
            Err(error) => messages.error(error),
        }
    }
    match &pin_root {
        Some(pin_root) => guard::sweep(pin_root, &mut |event| messages.take_of_leftovers(event)),
        None => Ok(()),
    }
}
