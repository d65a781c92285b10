//! What becomes of packets from an address: for the eye.

use std::fmt::Write as _;

use portguard_common::calls::UdpCalls;
use portguard_common::reason::Denial;

use super::document::{Allowlist, Conditions, Document, Entry, Verdict};
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
    if let Some(at) = &verdict.at {
        write!(text, " at {at}")?;
    }
    writeln!(text, ": {}", reason(verdict))?;
    if verdict.verdict == Decision::Allowed
        && let Some(conditions) = verdict.entry.as_ref().and_then(|entry| entry.conditions.as_ref())
    {
        writeln!(text, "  note: the entry allows {}", shown_conditions(conditions))?;
    }
    if let Some(note) = note {
        writeln!(text, "  note: {source} is {note}")?;
    }
    let own_udp = verdict.entry.as_ref().and_then(|entry| entry.conditions.as_ref()?.udp);
    if verdict.verdict == Decision::Allowed
        && own_udp.is_none()
        && allowlist.udp != UdpCalls::All
        && verdict.call.is_some()
    {
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
    if let (Some(entry), Some(reason)) = (entry, verdict.reason) {
        let line = entry.line.map(|line| format!(", {}", line_of(allowlist, line))).unwrap_or_default();
        let prefix = entry.prefix;
        let Conditions { interfaces, until, udp, rate } = entry.conditions.clone().unwrap_or_default();
        let why = match reason {
            Denial::CallNotAllowed => {
                let call = verdict.call.map_or("it", calls::name);
                let (of, udp) = match udp {
                    Some(udp) => (format!("{prefix} ({path}{line})"), udp),
                    None => (path, allowlist.udp.key()),
                };
                let covered = format!(" (it is covered by {prefix}{line})");
                let covered = if of.starts_with(&prefix.to_string()) { "" } else { &covered };
                format!("`udp: {udp}` of {of} does not permit {call} over UDP{covered}")
            }
            Denial::WrongInterface => {
                let where_else = match interfaces {
                    Some(interfaces) => printable(&interfaces.join(", ")),
                    None => "other interfaces".to_owned(),
                };
                format!("{prefix} ({path}{line}) is for {where_else} only")
            }
            Denial::Expired => {
                format!(
                    "{prefix} ({path}{line}) ended at {}",
                    until.as_deref().unwrap_or("a time that is over")
                )
            }
            Denial::RateExceeded => {
                let rate =
                    rate.map_or("as many packets as it may".to_owned(), |rate| format!("{rate} packets"));
                format!("{prefix} ({path}{line}) has let pass {rate} over UDP in this second")
            }
            // The list covers the source, so it is none of its entries.
            Denial::NotAllowed => format!("no entry of {path} covers it"),
        };
        return format!("{dropped}: {why}");
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

/// Conditions as a part of a sentence: `until 2026-12-01T18:00:00Z, on eth1, bond0, 100/s over UDP`.
fn shown_conditions(conditions: &Conditions) -> String {
    let Conditions { interfaces, until, udp, rate } = conditions;
    let parts = [
        until.as_ref().map(|until| format!("until {until}")),
        interfaces.as_ref().map(|interfaces| format!("on {}", printable(&interfaces.join(", ")))),
        udp.map(|udp| format!("`udp: {udp}`")),
        rate.map(|rate| format!("{rate}/s over UDP")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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
