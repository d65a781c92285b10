//! How verbs end: what they print, and their exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::ops::Messages;
use crate::printable::{Json, lines};
use crate::term;

/// Said where there is nothing to show or to do.
pub(super) const NOTHING_GUARDED: &str = "no interface of this network namespace is guarded";

/// Does the same for each of several things: goes on after an error, and tells of each. The exit code is that of the
/// first one.
pub(super) fn for_each<T>(
    things: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> Result<()>,
) -> ExitCode {
    let mut first = None;
    for thing in things {
        if let Err(error) = act(thing) {
            term::error(&error);
            first.get_or_insert(error.kind());
        }
    }
    first.map_or(ExitCode::SUCCESS, |kind| kind.exit_code().into())
}

/// Prints what was collected; the exit code is that of the first failure.
pub(super) fn finish(messages: Messages, out: &mut dyn Write) -> Result<ExitCode> {
    let code = messages.first_failure().map_or(ExitCode::SUCCESS, |kind| kind.exit_code().into());
    messages.print(out).map_err(unwritten)?;
    Ok(code)
}

/// Prints what was collected before a command failed, on the way to its error.
pub(super) fn print_before<T>(messages: Messages, out: &mut dyn Write, failed: Error) -> Result<T> {
    // The failure is the one to tell.
    let _ = messages.print(out);
    Err(failed)
}

pub(super) fn print(out: &mut dyn Write, text: &str) -> Result<()> {
    // At once: an error about the next interface comes after what was said about this one.
    out.write_all(lines(text).as_bytes()).and_then(|()| out.flush()).map_err(unwritten)
}

pub(super) fn print_json(out: &mut dyn Write, document: &impl Serialize) -> Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Json);
    document.serialize(&mut serializer).map_err(io::Error::from).map_err(unwritten)?;
    out.write_all(b"\n").map_err(unwritten)
}

/// The error that output could not be written.
pub fn unwritten(error: io::Error) -> Error {
    Error::failed("cannot write to standard output").caused_by(error)
}
