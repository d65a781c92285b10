//! `portguard confirm`: keeps a change that is on trial.

pub(super) mod question;

use std::io::Write;
use std::process::ExitCode;

use crate::cli::print::{finish, print_before, unwritten};
use crate::control;
use crate::error::{Error, Result};
use crate::guard::{self, Guard, PinRoot};
use crate::ops::Messages;
use crate::ops::owner::owner_of;
use crate::ops::trial::{self, lock_to_change};
use crate::term;

/// Arguments of `confirm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interfaces whose change is confirmed [default: all of this network namespace that have a pending change]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
}

/// Keeps the change of each of the interfaces, or all that wait.
///
/// # Errors
/// The process is not permitted, or no change waits; what goes wrong with one interface is printed.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let mut messages = term::messages();
    let confirmed = match &pin_root {
        Some(pin_root) => confirm(pin_root, &args.interfaces, &mut messages),
        None => Err(nothing_waits()),
    };
    match confirmed {
        Ok(0) => finish(messages, out),
        Ok(code) => messages.print(out).map_err(unwritten).map(|()| code.into()),
        Err(error) => print_before(messages, out, error),
    }
}

/// Returns the exit code of what was handed to services.
fn confirm(pin_root: &PinRoot, names: &[String], messages: &mut Messages) -> Result<u8> {
    let select = || -> Result<Vec<Result<Guard>>> {
        let mut guards = Guard::select(Some(pin_root), names)?;
        if names.is_empty() {
            let waits =
                |guard: &Guard| guard.confirmation().is_ok_and(|it| it.is_some_and(|it| it.is_in_force()));
            guards.retain(|guard| guard.as_ref().is_ok_and(waits));
        }
        Ok(guards)
    };
    let (mut by_hand, mut code) = (Vec::new(), 0);
    for guard in select()? {
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                messages.error(error);
                continue;
            }
        };
        let name = guard.interface().name.clone();
        let Some(service) = owner_of(guard.interface(), messages) else {
            by_hand.push(name);
            continue;
        };
        match service.confirm(control::Confirm { interfaces: vec![name] }) {
            Ok(outcome) => {
                let failed = messages.take_outcome(outcome);
                code = if code == 0 { failed } else { code };
            }
            Err(error) => messages.error(error),
        }
    }
    if names.is_empty() && select()?.is_empty() && by_hand.is_empty() {
        return if code == 0 && messages.is_empty() { Err(nothing_waits()) } else { Ok(code) };
    }
    if !by_hand.is_empty() {
        let _lock = lock_to_change(pin_root, messages)?;
        for name in by_hand {
            let confirmed =
                Guard::by_name(Some(pin_root), &name).and_then(|guard| trial::confirm(&guard, messages));
            if let Err(error) = confirmed {
                messages.error(error);
            }
        }
    }
    Ok(code)
}

fn nothing_waits() -> Error {
    Error::failed("no change waits for its confirmation").remedy(
        "A change that was not confirmed in time is no longer in force. See the state with: portguard status",
    )
}
