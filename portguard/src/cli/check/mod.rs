//! `portguard check`: validates an allowlist without touching the kernel.

mod document;

use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

use self::document::Document;
use crate::allowlist::{Allowlist, Checked, DEFAULT_PATH, Entry, Invalid, MAX_FILE_SIZE};
use crate::cli::absent;
use crate::cli::print::{print_json, unwritten};
use crate::error::{Error, Kind, Result};
use crate::ops::{Console as _, Message};
use crate::printable::{counted, printable};
use crate::term::{self, Stderr};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The allowlist to validate; `-` is standard input
    #[arg(value_name = "PATH", env = "PORTGUARD_ALLOWLIST", default_value = DEFAULT_PATH)]
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The path that means standard input.
const STDIN: &str = "-";

/// Validates the allowlist at `args.path`, prints what is wrong with it, or what it holds.
///
/// # Errors
/// The list is invalid, or its file cannot be read.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut checked = if args.path == Path::new(STDIN) { from_stdin()? } else { Allowlist::load(&args.path) };
    if let Ok(checked) = &mut checked {
        checked.warn_of_ended(Timestamp::now());
    }
    if args.json {
        let code =
            if checked.is_ok() { ExitCode::SUCCESS } else { Kind::InvalidAllowlist.exit_code().into() };
        let absent = checked.as_ref().map_or_else(|_| Vec::new(), |it| absent_interfaces(&it.allowlist));
        print_json(out, &Document::new(&args.path, &checked, absent))?;
        return Ok(code);
    }
    let Checked { allowlist, warnings } = checked?;
    Stderr.show(&Message::ListWarnings(warnings.clone()));
    if let Some(note) = absent::note(&absent_interfaces(&allowlist)) {
        term::note(&note);
    }
    let with_conditions = allowlist.entries().iter().filter_map(Entry::conditions).count();
    writeln!(
        out,
        "{}: {} ({} IPv4, {} IPv6){}{}, {}",
        printable(&args.path.to_string_lossy()),
        counted(allowlist.entries().len() as u64, "entry"),
        allowlist.prefixes_v4(),
        allowlist.prefixes_v6(),
        match with_conditions {
            0 => String::new(),
            number => format!(", {number} with conditions"),
        },
        match allowlist.udp_calls() {
            UdpCalls::All => String::new(),
            calls => format!(", udp {}", calls.key()),
        },
        warnings.count(),
    )
    .map_err(unwritten)?;
    Ok(ExitCode::SUCCESS)
}

/// The interfaces that entries name, and that this host does not have.
fn absent_interfaces(list: &Allowlist) -> Vec<&str> {
    let conditions = list.entries().iter().filter_map(Entry::conditions);
    absent::absent(conditions.filter_map(|it| it.interfaces.as_deref()).flatten())
}

/// Validates what comes on standard input.
fn from_stdin() -> Result<Result<Checked, Box<Invalid>>> {
    let mut text = Vec::new();
    let read = io::stdin().take(MAX_FILE_SIZE + 1).read_to_end(&mut text);
    read.map_err(|error| Error::failed("cannot read standard input").caused_by(error))?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(Error::new(
            Kind::InvalidAllowlist,
            format!("standard input is larger than {} MiB", MAX_FILE_SIZE >> 20),
        ));
    }
    Ok(Allowlist::parse(Path::new(STDIN), &text))
}
