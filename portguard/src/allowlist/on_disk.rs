//! Compares the current content of the file of a list with the list in force.

use std::path::Path;

use serde::Serialize;

use super::{Allowlist, Diagnostics, Sha256Sum, load};
use crate::printable::printable;

/// The current content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum OnDisk {
    /// The list in force.
    Unchanged,
    /// Another valid list.
    Changed,
    /// No valid list, or the file does not exist or cannot be read.
    Broken {
        /// The first problem, in one line.
        problem: String,
    },
}

impl OnDisk {
    /// The current content of a file, compared with the list in force, which was read from it and has this hash.
    pub fn of(path: &Path, sha256: Sha256Sum) -> Self {
        if holds(path, sha256) {
            return Self::Unchanged;
        }
        match Allowlist::load(path) {
            Ok(checked) if checked.allowlist.sha256() == sha256 => Self::Unchanged,
            Ok(_) => Self::Changed,
            // This includes a file that other users may write: it would not be loaded, with any content.
            Err(invalid) => {
                let first = invalid.errors.iter().next();
                let problem = first.map_or_else(String::new, |problem| {
                    let line = problem.place.as_ref().map(|place| format!("line {}: ", place.line));
                    printable(&format!("{}{}", line.unwrap_or_default(), problem.message))
                });
                Self::Broken { problem }
            }
        }
    }
}

/// Whether a file still has the content with this hash, and nobody else can write it. This saves the validation of a
/// long list.
fn holds(path: &Path, sha256: Sha256Sum) -> bool {
    let mut errors = Diagnostics::new(path);
    load::read(path, &mut errors)
        .is_ok_and(|(bytes, _)| errors.total() == 0 && Sha256Sum::of(&bytes) == sha256)
}
