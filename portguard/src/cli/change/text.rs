//! A change of a list in lines.

use std::fmt::Write as _;
use std::path::Path;

use super::{Change, Placed};
use crate::ops::list_here::State;
use crate::printable::printable;

/// A line for each prefix.
pub(super) fn changes(path: &Path, change: &Change, is_dry_run: bool) -> String {
    let path = self::path(path);
    let would = if is_dry_run { "would be " } else { "" };
    let conditions = match change.conditions.is_empty() {
        true => String::new(),
        false => format!(": {}", change.conditions),
    };
    let mut text = String::new();
    // Writing to a string does not fail.
    for Placed { prefix, line } in &change.present {
        let _ = writeln!(text, "{prefix} is already on the list, line {line}");
    }
    for Placed { prefix, line } in &change.added {
        let _ = writeln!(text, "{prefix} {would}added to {path}, line {line}{conditions}");
    }
    for Placed { prefix, line } in &change.changed {
        let other = change.conditions_of(*prefix);
        let _ = writeln!(text, "{prefix} {would}changed in {path}, now line {line}: {other}");
    }
    for Placed { prefix, line } in &change.removed {
        let _ = writeln!(text, "{prefix} {would}taken out of {path}, line {line}");
    }
    text
}

/// A guard on which the list is in force already.
pub(super) fn in_force(state: &State) -> String {
    let generation = state.generation.map_or(String::new(), |number| format!(", generation {number}"));
    format!("{}: the list is in force{generation}\n", state.interface)
}

pub(super) fn path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
