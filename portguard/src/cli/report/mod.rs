//! `portguard report`: the evidence that an abuse desk asks for.

pub mod covered;
pub mod document;
pub mod text;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use self::covered::Covered;
use self::document::Document;
use crate::cli::print::{NOTHING_GUARDED, for_each, print, print_json, unwritten};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, PinRoot};
use crate::rpcbind::amplification::Answers;
use crate::term;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "report measures the replies of this host's own rpcbind, over the loopback interface, with \
        calls that change nothing."
)]
pub struct Args {
    /// The interfaces to report on [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Show at most N sources per interface; the rest is summed up [default: 20 as text, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Print one JSON document
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the sources as comma-separated values
    #[arg(long)]
    pub csv: bool,
}

/// How many sources are named to the eye, unless asked otherwise.
const DEFAULT_TOP: usize = 20;

/// The name of the host, in its UTS namespace.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Writes down who was kept from rpcbind, and what rpcbind would have answered. That it does not run is no error.
///
/// # Errors
/// The process is not permitted, a named interface has no guard, or its counters cannot be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let guards = Guard::select(pin_root.as_ref(), &args.interfaces)?;
    let as_text = !args.json && !args.csv;
    if guards.is_empty() && as_text {
        term::note(NOTHING_GUARDED);
        return Ok(ExitCode::SUCCESS);
    }
    let host = fs::read_to_string(HOSTNAME)
        .map_err(|error| Error::failed(format!("cannot read {HOSTNAME}")).caused_by(error))?;
    let answers = Answers::measure();
    if !as_text && !answers.are_known() {
        term::note("no rpcbind of this host replies, so the sizes of replies are left out");
    }
    let top = args.top.or(as_text.then_some(DEFAULT_TOP));
    let mut taken_at = guard::unix_now();
    let mut interfaces = Vec::new();
    let code = for_each(guards, |guard| {
        let guard = guard?;
        let snapshot = guard.counters()?;
        taken_at = snapshot.taken_at;
        let covered = Covered::by(&guard.prefixes()?);
        let name = guard.interface().name.clone();
        let (hook, enforcing) = (guard.hook(), guard.is_enforcing());
        interfaces.push(document::Interface::new(name, hook, enforcing, snapshot, &covered, &answers, top));
        Ok(())
    });
    let document = Document::new(taken_at, host.trim().to_owned(), &answers, interfaces);
    if args.json {
        print_json(out, &document)?;
    } else if args.csv {
        let csv = document::csv(&document).map_err(|error| unwritten(io::Error::other(error)))?;
        print(out, &csv)?;
    } else {
        print(out, &text::text(&document))?;
    }
    Ok(code)
}
