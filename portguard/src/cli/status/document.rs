//! Which guard is where, with which list.

use std::path::PathBuf;

use serde::Serialize;

pub use crate::allowlist::OnDisk as File;
use crate::allowlist::Origin;
use crate::control::OrderDescription;
use crate::guard::{Hook, Waits};
use crate::ops::services::{ServiceState, Unguarded};
use crate::printable::serialize_path;

/// The document of `status --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// The guards.
    pub interfaces: Vec<Guard>,
    /// The interfaces that should have a guard and have none.
    pub unguarded: Vec<Unguarded>,
}

impl Document {
    /// A document of this version.
    pub fn new(interfaces: Vec<Guard>) -> Self {
        Self { schema: 1, interfaces, unguarded: Vec::new() }
    }
}

/// A guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// The name of its interface now.
    pub interface: String,
    /// The index of its interface.
    pub ifindex: u32,
    /// Where it runs: `hook`, and `mode` if that is XDP.
    #[serde(flatten)]
    pub hook: Hook,
    /// Whether it drops, or only counts.
    pub enforcing: bool,
    /// How many lists it has had.
    pub generation: u64,
    /// Where the link is pinned.
    #[serde(serialize_with = "serialize_path")]
    pub pinned: PathBuf,
    /// RFC 3339.
    pub attached_at: String,
    /// The list in force.
    pub allowlist: Allowlist,
    /// The last change with `--confirm`, unless it was confirmed.
    pub confirmation: Option<Confirmation>,
    /// What the kernel runs.
    pub program: Program,
    /// What the guard is ordered to do.
    pub order: OrderDescription,
    /// The service that keeps it.
    pub service: Option<ServiceState>,
}

/// A change that was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// What it waits for.
    pub state: Waits,
    /// Until when it waits, or has waited; RFC 3339.
    pub deadline: String,
}

/// A list in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowlist {
    /// Where it was read from.
    #[serde(serialize_with = "serialize_path")]
    pub path: PathBuf,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// IPv4 prefixes.
    pub prefixes_v4: u32,
    /// IPv6 prefixes.
    pub prefixes_v6: u32,
    /// The calls that it permits over UDP: `all`, `lookups` or `none`.
    pub udp: &'static str,
    /// The number of entries with conditions.
    pub conditional: u32,
    /// By how many seconds the deadline of an entry is off at most, because the clock was set.
    pub deadlines_off_by: u64,
    /// RFC 3339.
    pub loaded_at: String,
    /// Whether the file holds something else now, or is gone.
    pub changed_on_disk: bool,
    /// `file`; or `last_good`, if the file was broken then and the copy of what it held before was taken.
    pub origin: Origin,
    /// What the file holds now.
    pub file: File,
}

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The hash of its instructions, in hexadecimal.
    pub tag: String,
    /// The version of the layout of its maps.
    pub abi_version: u32,
}
