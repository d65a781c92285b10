//! One verb, one file, one function that takes its arguments and a writer.

pub mod attach;
pub mod check;
pub mod detach;
pub mod doctor;
pub mod explain;
pub mod probe;
pub mod reload;
pub mod report;
pub mod run;
pub mod stats;
pub mod status;
pub mod suggest;
pub mod top;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::allowlist::{Allowlist, Checked, OnDisk, Style};
use crate::error::{Error, Result};
use crate::guard::{Home, Lock};
use crate::{last_good, output};

/// Said where there is nothing to show or to do.
const NOTHING_GUARDED: &str = "no interface of this network namespace is guarded";

/// Reads a list that is to be put in force; shows what is odd about it.
pub(crate) fn load_allowlist(path: &Path) -> Result<Allowlist> {
    let Checked { allowlist, warnings } = Allowlist::load(path)?;
    eprint!("{}", warnings.render(Style::of(&io::stderr())));
    Ok(allowlist)
}

/// A list that was read before the lock was had; read again if its file has changed since, as another portguard may have
/// put that in force.
pub(crate) fn fresh(list: Allowlist) -> Result<Allowlist> {
    match OnDisk::of(list.path(), list.sha256()) {
        OnDisk::Unchanged => Ok(list),
        OnDisk::Changed | OnDisk::Broken { .. } => load_allowlist(list.path()),
    }
}

/// Keeps a copy of a list that has been put in force; that it cannot is no reason to take the guard off again.
pub(crate) fn keep_last_good(list: &Allowlist) {
    if let Err(error) = last_good::keep(list) {
        output::error::warning(&error.to_string());
    }
}

/// Waits for other portguards that change guards.
pub(crate) fn lock(home: &Home) -> Result<Lock> {
    home.lock(|| output::error::note("waiting for another portguard to finish"))
}

/// Does the same for each of several things: goes on after an error, and tells of each. The exit code is that of the
/// first one.
fn for_each<T>(things: impl IntoIterator<Item = T>, mut act: impl FnMut(T) -> Result<()>) -> ExitCode {
    let mut first = None;
    for thing in things {
        if let Err(error) = act(thing) {
            output::error::print(&error);
            first.get_or_insert(error.kind());
        }
    }
    first.map_or(ExitCode::SUCCESS, |kind| kind.exit_code().into())
}

/// Names without repetitions, in their order.
pub(crate) fn unique(names: &[String]) -> Vec<&String> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

fn print(out: &mut dyn Write, text: &str) -> Result<()> {
    // At once: an error about the next interface comes after what was said about this one.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(unwritten)
}

fn print_json(out: &mut dyn Write, document: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, document).map_err(io::Error::from).map_err(unwritten)?;
    out.write_all(b"\n").map_err(unwritten)
}

/// The error that output could not be written.
pub fn unwritten(error: io::Error) -> Error {
    Error::failed("cannot write to standard output").because(error)
}
