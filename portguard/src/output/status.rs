//! Which guard is where, with which list.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

pub use crate::allowlist::OnDisk as File;
use crate::allowlist::Origin;
use crate::control::OrderDescription;
use crate::guard::Waits;
use crate::output::services::{self, Service, Unguarded};
use crate::output::state;

/// The document of `status --json`. Fields may be added; none is renamed or removed.
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
    /// `native`, `generic` or `offload`.
    pub mode: &'static str,
    /// Whether it drops, or only counts.
    pub enforcing: bool,
    /// How many lists it has had.
    pub generation: u64,
    /// Where the link is pinned.
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
    pub service: Option<Service>,
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
    pub path: PathBuf,
    /// Of the file, in hexadecimal.
    pub sha256: String,
    /// IPv4 prefixes.
    pub prefixes_v4: u32,
    /// IPv6 prefixes.
    pub prefixes_v6: u32,
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

/// The document for the eye.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for guard in &document.interfaces {
        // Writing to a string does not fail.
        let _ = write(&mut text, guard);
    }
    for unguarded in &document.unguarded {
        text += &services::line(unguarded);
        text.push('\n');
    }
    text
}

fn write(text: &mut String, guard: &Guard) -> std::fmt::Result {
    let Guard { interface, mode, generation, attached_at, allowlist, program, service, .. } = guard;
    let state = state(guard.enforcing);
    writeln!(text, "{interface}: {state}, {mode} mode, since {attached_at}")?;
    let path = allowlist.path.display();
    match &allowlist.file {
        File::Unchanged => writeln!(text, "  allowlist  {path}, unchanged on disk")?,
        File::Changed => {
            writeln!(text, "  allowlist  {path}, CHANGED on disk since (portguard reload {interface})")?;
        }
        File::Broken { problem } => {
            writeln!(text, "  allowlist  {path}, BROKEN on disk (portguard check {path})")?;
            writeln!(text, "             {problem}; what is in force is the list that it held before")?;
        }
    }
    if allowlist.origin == Origin::LastGood {
        writeln!(
            text,
            "             from the copy of the last good list: the file was broken when it was loaded"
        )?;
    }
    let Allowlist { prefixes_v4, prefixes_v6, loaded_at, sha256, .. } = allowlist;
    writeln!(
        text,
        "             generation {generation}, {prefixes_v4} IPv4 and {prefixes_v6} IPv6 prefixes, loaded {loaded_at}"
    )?;
    writeln!(text, "             sha256 {sha256}")?;
    if let Some(Confirmation { state, deadline }) = &guard.confirmation {
        match state {
            Waits::Pending => writeln!(
                text,
                "  change     waits for its confirmation until {deadline} (portguard confirm {interface})"
            )?,
            Waits::Overdue => writeln!(
                text,
                "  change     CONFIRMATION OVERDUE since {deadline}: the next portguard that changes guards restores \
                 what was before"
            )?,
            Waits::Rejected => writeln!(
                text,
                "  change     rejected: not confirmed until {deadline}; what was before it is in force"
            )?,
        }
    }
    let Program { id, name, tag, abi_version } = program;
    writeln!(text, "  program    {name}, id {id}, tag {tag}, ABI {abi_version}")?;
    writeln!(text, "  link       {}", guard.pinned.display())?;
    match service {
        Some(service) => writeln!(text, "  service    {}, {}", service.name(), service.verdict()),
        None => Ok(()),
    }
}
