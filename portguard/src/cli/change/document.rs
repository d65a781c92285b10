//! A change of a list.

use std::num::NonZeroU32;
use std::path::Path;

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;
use serde::Serialize;

use super::{Change, Placed};
use crate::allowlist::{self, Allowlist, InterfacePattern};
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
    /// The conditions of what was added; absent (null) if there are none.
    conditions: Option<Conditions<'a>>,
    /// What has other conditions now, with the lines that it has now.
    changed: Vec<Entry>,
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

/// Each of them is absent (null) if there is none of its kind.
#[derive(Debug, Serialize)]
struct Conditions<'a> {
    interfaces: Option<Vec<&'a str>>,
    /// RFC 3339, in UTC.
    until: Option<String>,
    udp: Option<&'static str>,
    /// Packets over UDP in a second.
    rate: Option<u32>,
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
    pub(super) fn new(here: &'a ListHere, change: &'a Change, list: &Allowlist, is_dry_run: bool) -> Self {
        let guard = |State { interface, generation, in_force }| Guard { interface, generation, in_force };
        let guards = here.users().is_ok();
        Self {
            schema: 1,
            allowlist: &here.path,
            sha256: list.sha256().to_string(),
            written: change.new.is_some() && !is_dry_run,
            added: entries(&change.added),
            conditions: Some(&change.conditions)
                .filter(|it| !change.added.is_empty() && !it.is_empty())
                .map(Conditions::from),
            changed: entries(&change.changed),
            removed: entries(&change.removed),
            present: entries(&change.present),
            guards: guards.then(|| here.state(list.sha256()).into_iter().map(guard).collect()),
        }
    }
}

impl<'a> From<&'a allowlist::Conditions> for Conditions<'a> {
    fn from(conditions: &'a allowlist::Conditions) -> Self {
        let allowlist::Conditions { interfaces, until, udp, rate } = conditions;
        let names =
            |interfaces: &'a [InterfacePattern]| interfaces.iter().map(InterfacePattern::as_str).collect();
        Self {
            interfaces: interfaces.as_deref().map(names),
            until: until.map(|until| until.to_string()),
            udp: udp.map(UdpCalls::key),
            rate: rate.map(NonZeroU32::get),
        }
    }
}

fn entries(placed: &[Placed]) -> Vec<Entry> {
    placed.iter().map(|&Placed { prefix, line }| Entry { prefix, line }).collect()
}
