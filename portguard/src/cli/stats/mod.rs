//! `portguard stats`: what was allowed and dropped.

pub mod document;
pub mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;

use self::document::Document;
use crate::cli::print::{NOTHING_GUARDED, finish, print, print_json, unwritten};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot, Reset};
use crate::ops::trial::lock_to_change;
use crate::term;

/// The order of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// Most packets first
    Packets,
    /// Most bytes first
    Bytes,
    /// Last seen first
    Recent,
}

/// Arguments of `stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interfaces to show [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Show at most N sources per interface; the rest is summed up [default: 20 as text, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// The order of the sources
    #[arg(long, value_enum, default_value_t = SortKey::Packets)]
    pub sort: SortKey,
    /// Print one JSON document
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the sources as comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Set the counters back to zero, and print their last values
    #[arg(long)]
    pub reset: bool,
}

/// How many sources are shown to the eye, unless asked otherwise.
const DEFAULT_TOP: usize = 20;

/// Shows the counters, and resets them if asked to.
///
/// # Errors
/// The process is not permitted, a named interface has no guard, or its counters cannot be read; or what they held cannot
/// be printed: then they are not reset.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    // A reader that has left is a failure here: the figures that it did not read are kept.
    let mut stdout = io::stdout();
    let out: &mut dyn Write = if args.reset { &mut stdout } else { out };
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let as_text = !args.json && !args.csv;
    let top = args.top.or(as_text.then_some(DEFAULT_TOP));
    let mut messages = term::messages();
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
            let (name, hook, enforcing) =
                (guard.interface().name.clone(), guard.hook(), guard.is_enforcing());
            let snapshot = if args.reset {
                let reset = Reset::begin(guard, &mut |event| messages.take(&name, event))?;
                let held = reset.held.clone();
                if reset.is_partial {
                    messages.warning(format!(
                        "{name}: only the counters that earlier resets could not write are reset; run the command \
                         again for the rest"
                    ));
                }
                resets.push(reset);
                held
            } else {
                guard.counters()?
            };
            taken_at = snapshot.taken_at;
            interfaces.push(document::Interface::new(name, hook, enforcing, snapshot, args.sort, top));
            Ok(())
        };
        if let Err(error) = guard.and_then(&mut read) {
            messages.error(error);
        }
    }
    // Printed without the lock, and removed when it is printed: what nobody could be told is still counted.
    drop(lock);
    let code = finish(messages, out)?;
    let document = Document::new(taken_at, interfaces);
    if args.json {
        print_json(out, &document)?;
        out.flush().map_err(unwritten)?;
    } else if args.csv {
        let csv = document::csv(&document).map_err(|error| unwritten(io::Error::other(error)))?;
        print(out, &csv)?;
    } else {
        print(out, &text::text(&document))?;
    }
    if let Some(pin_root) = pin_root.filter(|_| !resets.is_empty()) {
        let mut messages = term::messages();
        let retired = lock_to_change(&pin_root, &mut messages)
            .and_then(|_lock| resets.into_iter().try_for_each(Reset::retire));
        messages.log();
        retired?;
    }
    Ok(code)
}
