//! What becomes of packets from an address: for the eye.

use std::fmt::Write as _;

use portguard_common::calls::UdpCalls;

use super::document::{Allowlist, Document, Entry, Verdict};
use crate::allowlist::Origin;
use crate::guard::{Decision, calls};
use crate::ops::services;
use crate::printable::printable;

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
    if verdict.verdict == Decision::Allowed && allowlist.udp != UdpCalls::All && verdict.call.is_some() {
        writeln!(
            text,
            "  note: `udp: {}` of {} permits no other calls over UDP than lookups (--call tries one)",
            allowlist.udp.key(),
            shown(allowlist)
        )?;
    }
    if allowlist.changed_on_disk {
        let path = shown(allowlist);
        writeln!(
            text,
            "  note: {path} has changed since it was loaded, or is gone; the list in force decides"
        )?;
    }
    if let Some(service) = service
        && !service.as_ordered
    {
        writeln!(text, "  note: {} keeps the guard, which is {}", service.name(), service.verdict())?;
    }
    if *same_program == Some(false) {
        writeln!(
            text,
            "  note: another build of portguard attached the guard; the verdict is from the lists of the guard and \
             the program of this build"
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
    if let Some(entry) = entry {
        let line = entry.line.map(|line| format!(", {}", line_of(allowlist, line))).unwrap_or_default();
        let call = verdict.call.map_or("it", calls::name);
        return format!(
            "{dropped}: `udp: {}` of {path} does not permit {call} over UDP (it is covered by {}{line})",
            allowlist.udp.key(),
            entry.prefix
        );
    }
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
