//! What becomes of packets from an address, and which entry decides.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use portguard_common::listed;
use portguard_common::transport::Protocol;
use serde::{Serialize, Serializer};

use crate::allowlist::{self, Origin, printable};
use crate::guard::Decision;
use crate::output::services::{self, Service, Unguarded};

/// The document of `explain --json`. Fields may be added; none is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// In the order of the sources as they were asked for, and for each in that of the interfaces.
    pub verdicts: Vec<Verdict>,
    /// The interfaces that should have a guard and have none: on those that are there, every packet passes.
    pub unguarded: Vec<Unguarded>,
}

impl Document {
    /// A document of this version.
    pub fn new(verdicts: Vec<Verdict>) -> Self {
        Self { schema: 1, verdicts, unguarded: Vec::new() }
    }
}

/// What becomes of packets for port 111 from one source on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where the packets come from.
    pub source: IpAddr,
    /// The guarded interface; none if a file was judged by.
    pub interface: Option<String>,
    /// What becomes of them.
    pub verdict: Decision,
    /// Who says so.
    pub judged_by: Judge,
    /// The protocols that were tried; the verdict is the same for each.
    #[serde(serialize_with = "keys")]
    pub protocols: Vec<Protocol>,
    /// The list that decides.
    pub allowlist: Allowlist,
    /// The entry that lets them in, if one does.
    pub entry: Option<Entry>,
    /// If none does: the one that comes nearest. None if the list has none of this address family.
    pub nearest: Option<Entry>,
    /// Whether the program that was run is the one that is attached, instruction for instruction; none if a file was
    /// judged by.
    pub same_program: Option<bool>,
    /// What is odd about the source.
    pub note: Option<&'static str>,
    /// Whether the guard drops, or only counts; none if a file was judged by.
    pub enforcing: Option<bool>,
    /// The service that keeps the guard.
    pub service: Option<Service>,
}

/// Protocols as their keys.
fn keys<S: Serializer>(protocols: &[Protocol], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(protocols.iter().map(|protocol| protocol.key()))
}

listed! {
    /// Who gives a verdict.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Judge {
        /// The guard's program, run by the kernel on the list in force.
        Kernel = "kernel",
        /// The file, read by this command.
        File = "file",
    }
}

/// The list that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowlist {
    /// Its file.
    pub path: PathBuf,
    /// Of the file as it was read or loaded, in hexadecimal.
    pub sha256: String,
    /// How many lists the guard has had; none if a file was judged by.
    pub generation: Option<u64>,
    /// Whether the file holds something else than the list in force, or is gone.
    pub changed_on_disk: bool,
    /// Which text the lines are those of; none if there is none any more that fits the list in force.
    pub lines_of: Option<Origin>,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its line, if the text is still there.
    pub line: Option<u32>,
    /// What the user wrote next to it.
    pub comment: Option<String>,
}

impl From<&allowlist::Entry> for Entry {
    fn from(entry: &allowlist::Entry) -> Self {
        let comment = entry.comment().map(str::to_owned);
        Self { prefix: entry.prefix(), line: Some(entry.line()), comment }
    }
}

/// The document for the eye.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for verdict in &document.verdicts {
        // Writing to a string does not fail.
        let _ = write(&mut text, verdict);
    }
    for unguarded in &document.unguarded {
        text += &services::line(unguarded);
        text.push('\n');
    }
    text
}

fn write(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    let Verdict { source, interface, allowlist, same_program, note, service, .. } = verdict;
    match interface {
        Some(interface) => write!(text, "{source} on {}", printable(interface))?,
        None => write!(text, "{source}, judged by the file")?,
    }
    if let [only] = verdict.protocols[..] {
        write!(text, " over {}", only.name())?;
    }
    writeln!(text, ": {}", reason(verdict))?;
    if let Some(note) = note {
        writeln!(text, "  note: {source} is {note}")?;
    }
    if allowlist.changed_on_disk {
        let path = shown(allowlist);
        writeln!(text, "  note: {path} has changed since, or is gone; this is the list that is in force")?;
    }
    if let Some(service) = service
        && !service.as_ordered
    {
        writeln!(text, "  note: {} keeps the guard, which is {}", service.name(), service.verdict())?;
    }
    if *same_program == Some(false) {
        writeln!(
            text,
            "  note: another build of portguard has attached the guard; its lists were asked, but by this build's \
             program"
        )?;
    }
    Ok(())
}

fn reason(verdict: &Verdict) -> String {
    let Verdict { verdict: decision, allowlist, entry, nearest, .. } = verdict;
    let path = shown(allowlist);
    if let (Decision::Allowed, Some(entry)) = (decision, entry) {
        let what = [
            Some(path),
            entry.line.map(|line| format!(", {}", line_of(allowlist, line))),
            entry.comment.as_ref().map(|comment| format!(": {}", printable(comment))),
        ];
        let what: String = what.into_iter().flatten().collect();
        return format!("allowed by {} ({what})", entry.prefix);
    }
    let dropped = match decision {
        Decision::WouldDrop => "would be dropped, but passes in audit mode",
        _ => "dropped",
    };
    let nearest = match nearest {
        Some(Entry { prefix, line: Some(line), .. }) => {
            format!("nearest: {prefix}, {}", line_of(allowlist, *line))
        }
        Some(Entry { prefix, line: None, .. }) => format!("nearest: {prefix}"),
        None if verdict.source.is_ipv4() => "it has no IPv4 prefixes".to_owned(),
        None => "it has no IPv6 prefixes".to_owned(),
    };
    format!("{dropped}: no entry of {path} covers it ({nearest})")
}

fn shown(allowlist: &Allowlist) -> String {
    printable(&allowlist.path.to_string_lossy())
}

fn line_of(allowlist: &Allowlist, line: u32) -> String {
    match allowlist.lines_of {
        Some(Origin::LastGood) => format!("line {line} of the copy of the last good list"),
        _ => format!("line {line}"),
    }
}
