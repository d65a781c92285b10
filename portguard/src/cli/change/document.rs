//! A change of a list.

use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;

use super::{Change, Placed};
use crate::allowlist::Allowlist;
use crate::ops::list_here::{ListHere, State};
use crate::printable::serialize_path;

/// The document of `allow --json` and `revoke --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    schema: u32,
    /// The absolute path of the file.
    #[serde(serialize_with = "serialize_path")]
    allowlist: &'a Path,
    /// The SHA-256 of the list with the change.
    sha256: String,
    /// Whether the file was changed; false with `--dry-run`, and if there was nothing to change.
    written: bool,
    /// With the lines that they have now.
    added: Vec<Entry>,
    /// With the lines that they had.
    removed: Vec<Entry>,
    /// What was to be added, and was on the list already.
    present: Vec<Entry>,
    /// The guards of this network namespace that use the file; absent (null) if they are not known.
    guards: Option<Vec<Guard>>,
}

#[derive(Debug, Serialize)]
struct Entry {
    prefix: IpNet,
    line: u32,
}

#[derive(Debug, Serialize)]
struct Guard {
    interface: String,
    /// Absent (null) if the guard has no list.
    generation: Option<u64>,
    /// Whether the list of this document is in force.
    in_force: bool,
}

impl<'a> Document<'a> {
    pub(super) fn new(here: &'a ListHere, change: &Change, list: &Allowlist, is_dry_run: bool) -> Self {
        let guard = |State { interface, generation, in_force }| Guard { interface, generation, in_force };
        let guards = here.users().is_ok();
        Self {
            schema: 1,
            allowlist: &here.path,
            sha256: list.sha256().to_string(),
            written: change.new.is_some() && !is_dry_run,
            added: entries(&change.added),
            removed: entries(&change.removed),
            present: entries(&change.present),
            guards: guards.then(|| here.state(list.sha256()).into_iter().map(guard).collect()),
        }
    }
}

fn entries(placed: &[Placed]) -> Vec<Entry> {
    placed.iter().map(|&Placed { prefix, line }| Entry { prefix, line }).collect()
}
