//! `portguard stats`: what was allowed and dropped.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::Stats;
use crate::commands::{NOTHING_GUARDED, finish, print, print_json, unwritten};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot, Reset};
use crate::ops::Messages;
use crate::ops::trial::lock_to_change;
use crate::output::stats;

/// How many sources are shown to the eye, unless asked otherwise.
const DEFAULT_TOP: usize = 20;

/// Shows the counters, and resets them if asked to.
///
/// # Errors
/// The process is not permitted, a named interface has no guard, or its counters cannot be read; or what they held cannot
/// be printed: then they are not reset.
pub fn run(args: &Stats, out: &mut dyn Write) -> Result<ExitCode> {
    // A reader that has left is a failure here: the figures that it did not read are kept.
    let mut stdout = io::stdout();
    let out: &mut dyn Write = if args.reset { &mut stdout } else { out };
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let as_text = !args.json && !args.csv;
    let top = args.top.or(as_text.then_some(DEFAULT_TOP));
    let mut messages = Messages::new();
    let reset_at = pin_root.as_ref().filter(|_| args.reset);
    let lock = reset_at.map(|pin_root| lock_to_change(pin_root, &mut messages)).transpose()?;
    let guards = Guard::select(pin_root.as_ref(), &args.interfaces)?;
    if guards.is_empty() && as_text {
        messages.note(NOTHING_GUARDED);
    }
    let mut taken_at = guard::unix_now();
    let (mut interfaces, mut resets) = (Vec::new(), Vec::new());
    for guard in guards {
        let mut read = |guard: Guard| {
            let (name, mode, enforcing) =
                (guard.interface().name.clone(), guard.mode().key(), guard.is_enforcing());
            let snapshot = if args.reset {
                let reset = Reset::begin(guard, &mut |event| messages.take(&name, event))?;
                let held = reset.held.clone();
                if reset.is_partial {
                    messages.warning(format!(
                        "{name}: only what earlier resets could not write is reset; reset again for the rest"
                    ));
                }
                resets.push(reset);
                held
            } else {
                guard.counters()?
            };
            taken_at = snapshot.taken_at;
            interfaces.push(stats::Interface::new(name, mode, enforcing, snapshot, args.sort, top));
            Ok(())
        };
        if let Err(error) = guard.and_then(&mut read) {
            messages.error(error);
        }
    }
    // Printed without the lock, and removed when it is printed: what nobody could be told is still counted.
    drop(lock);
    let code = finish(messages, out)?;
    let document = stats::Document::new(taken_at, interfaces);
    if args.json {
        print_json(out, &document)?;
        out.flush().map_err(unwritten)?;
    } else if args.csv {
        let csv = stats::csv(&document).map_err(|error| unwritten(io::Error::other(error)))?;
        print(out, &csv)?;
    } else {
        print(out, &stats::text(&document))?;
    }
    if let Some(pin_root) = pin_root.filter(|_| !resets.is_empty()) {
        let mut messages = Messages::new();
        let retired = lock_to_change(&pin_root, &mut messages)
            .and_then(|_lock| resets.into_iter().try_for_each(Reset::retire));
        messages.log();
        retired?;
    }
    Ok(code)
}
