//! What is well on a host, and what is not: for the eye.

use std::fmt::Write as _;

use super::document::Document;
use crate::doctor::{Finding, Status};
use crate::printable::{counted, printable};

/// The document for the eye: each finding in a line, with its remedy below, and how many there are of each kind.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for Finding { id, subject, status, found, remedy } in &document.findings {
        let subject = subject.as_ref().map(|subject| format!(" {}", printable(subject))).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:7}  {id}{subject}: {}", label(*status), printable(found));
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "         -> {}", printable(&remedy.text));
        }
    }
    let _ = match document.status {
        Status::Ok => {
            writeln!(text, "No problem found in {}.", counted(document.count(Status::Ok) as u64, "check"))
        }
        _ => writeln!(text, "{}", Status::ALL.map(|status| count(document, status)).join(", ")),
    };
    text
}

/// How many findings have a status.
fn count(document: &Document, status: Status) -> String {
    let (count, word) = (document.count(status), status.key());
    match status {
        Status::Ok => format!("{count} {word}"),
        Status::Warning | Status::Failure => counted(count as u64, word),
    }
}

fn label(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::Warning => status.key(),
        Status::Failure => "FAILURE",
    }
}
