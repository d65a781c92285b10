//! The history: the contents of sets of counters before they ended.
//!
//! ```text
//! /var/lib/portguard/history/       mode 0700; below what systemd names in $STATE_DIRECTORY
//!   2026-11-26.jsonl                mode 0600; the lines of a day (UTC), see `docs/history.md`
//! ```
//!
//! Invariants:
//! - A line has absolute values, so that the last line of a set has all its counts, and no packet counts twice.
//! - In each line, the listed sources, the other sources and what is unattributed add up to the sum of the attributed reasons
//!   ([`Denial`](portguard_common::reason::Denial)).
//! - A line is complete or absent. A writer that is killed leaves at most one torn line, and damages no other line.
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

/// Writes the contents of a set of counters to the history. After `Ok`, the line is on the disk.
///
/// The caller reports an error as a warning and continues: a full disk must not prevent the change of a guard.
///
/// # Errors
/// The disk is full, other users than root can write to the directory, or another process holds the lock for longer
/// than a second. No part of the line remains then. If only old files could not be removed, the line is written.
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
/// A file cannot be read, or other users than root can write to the directory. A missing history is not an error.
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
