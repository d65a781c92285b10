//! The history: what sets of counters held before they ended.
//!
//! ```text
//! /var/lib/portguard/history/       mode 0700; below what systemd names in $STATE_DIRECTORY
//!   2026-11-26.jsonl                mode 0600; the lines of a day (UTC), see `docs/history.md`
//! ```
//!
//! Invariants:
//! - A line holds absolute values, so that the last line of a set says it all, and no packet counts twice.
//! - In each line, the listed sources, the other sources and what is unattributed add up to `not_allowed`.
//! - A line is whole or absent. A writer that is killed leaves at most a torn line, which costs no other line.
//! - The directory is bounded in age and size, and no writer waits longer than a second for another one.

mod line;
mod reader;
mod store;
#[cfg(test)]
mod tests;

use std::fs;

use crate::error::Result;
use crate::guard::{Snapshot, unix_now};
use crate::state_directory;

pub use line::{
    HEAVIEST, Identity, Line, OtherSources, Packets, Reason, RequestCounts, Schema, SourceCount, Totals,
};
pub use reader::History;
use store::{Limits, Store};

/// Writes what a set of counters holds to the history. When it returns `Ok`, the line is on the disk.
///
/// The caller reports an error as a warning and goes on: a full disk must not block a change of a guard.
///
/// # Errors
/// The disk is full, the directory is not root's alone, or another process holds the lock for longer than a second.
/// Nothing of the line remains then; or only old files could not be removed, and the line is there.
pub fn keep(snapshot: &Snapshot, identity: Identity<'_>, reason: Reason) -> Result<()> {
    append(&Line::new(snapshot, identity, reason, unix_now(), boot_id(), HEAVIEST))
}

/// Writes a line to the history, as [`keep`] does.
///
/// # Errors
/// As [`keep`].
pub fn append(line: &Line) -> Result<()> {
    store().append(line)
}

/// The last line of each set that counted at `since` (in nanoseconds of Unix time) or later; of all sets without it.
/// A set that still counts is among them if it was written before it ended.
///
/// # Errors
/// A file cannot be read, or others than root may write to the directory. No history at all is no error.
pub fn read(since: Option<u64>) -> Result<History> {
    store().read(since)
}

fn store() -> Store {
    Store::new(state_directory::path().join("history"), Limits::default())
}

/// The id of this boot. `None` in the service, whose unit hides `/proc/sys` (`ProcSubset=pid`).
fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}
