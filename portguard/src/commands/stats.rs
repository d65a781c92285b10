//! `portguard stats`: what was allowed and dropped.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::Stats;
use crate::commands::{NOTHING_GUARDED, for_each, lock, print, print_json, unwritten};
use crate::error::Result;
use crate::guard::{self, Guard, Home};
use crate::output::{self, stats};

/// How many sources are shown to the eye, unless asked otherwise.
const DEFAULT_TOP: usize = 20;

/// Shows the counters, and resets them if asked to.
///
/// # Errors
/// The process is not permitted, a named interface has no guard, or its counters cannot be read.
pub fn run(args: &Stats, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let home = Home::find()?;
    let _lock = home.as_ref().filter(|_| args.reset).map(lock).transpose()?;
    let guards = Guard::select(home.as_ref(), &args.interfaces)?;
    let as_text = !args.json && !args.csv;
    if guards.is_empty() && as_text {
        output::error::note(NOTHING_GUARDED);
    }
    let top = args.top.or(as_text.then_some(DEFAULT_TOP));
    let mut taken_at = guard::unix_now();
    let mut interfaces = Vec::new();
    let code = for_each(guards, |guard| {
        let guard = guard?;
        let (name, mode, enforcing) =
            (guard.interface().name.clone(), guard.mode().word(), guard.is_enforcing());
        let snapshot = if args.reset { guard::reset(guard)? } else { guard.counters()? };
        taken_at = snapshot.taken_at;
        interfaces.push(stats::Interface::new(name, mode, enforcing, snapshot, args.sort, top));
        Ok(())
    });
    let document = stats::Document::new(taken_at, interfaces);
    if args.json {
        print_json(out, &document)?;
    } else if args.csv {
        let csv = stats::csv(&document).map_err(|error| unwritten(io::Error::other(error)))?;
        print(out, &csv)?;
    } else {
        print(out, &stats::text(&document))?;
    }
    Ok(code)
}
