//! Whether this host has the interfaces that entries of a list name.

use std::collections::BTreeSet;

use crate::allowlist::InterfacePattern;
use crate::interface;
use crate::printable::printable;

/// The most names in the note.
const NAMED: usize = 10;

/// The names and patterns that no interface of this host has, in order. None if the interfaces cannot be read: the list may be for
/// another host.
pub(super) fn absent<'a>(named: impl Iterator<Item = &'a InterfacePattern>) -> Vec<&'a str> {
    let patterns: BTreeSet<&InterfacePattern> = named.collect();
    if patterns.is_empty() {
        return Vec::new();
    }
    let Ok(interfaces) = interface::all() else { return Vec::new() };
    let is_absent = |pattern: &&InterfacePattern| {
        !interfaces.iter().any(|it| it.names().iter().any(|name| pattern.matches(name)))
    };
    patterns.into_iter().filter(is_absent).map(InterfacePattern::as_str).collect()
}

/// What to say of them; nothing if there are none.
pub(super) fn note(absent: &[&str]) -> Option<String> {
    let (named, more) = absent.split_at(absent.len().min(NAMED));
    let names: Vec<String> = named.iter().map(|name| printable(name)).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!absent.is_empty()).then(|| format!("no interface of this host matches {}{more}", names.join(", ")))
}
