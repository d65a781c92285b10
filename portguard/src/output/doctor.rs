//! What is well on a host, and what is not.

use std::fmt::Write as _;

use serde::Serialize;

use crate::allowlist::printable;
use crate::doctor::{Finding, Status};

/// The document of `doctor --json`. Fields may be added; none is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// The worst of all findings.
    pub status: Status,
    /// What was found, in the order of the checks.
    pub findings: Vec<Finding>,
}

impl Document {
    /// A document of this version.
    pub fn new(findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        Self { schema: 1, status, findings }
    }

    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

/// The document for the eye: each finding in a line, with its remedy below, and how many there are of each kind.
pub fn text(document: &Document) -> String {
    let mut text = String::new();
    for Finding { id, subject, status, found, remedy } in &document.findings {
        let subject = subject.as_ref().map(|subject| format!(" {}", printable(subject))).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:7}  {id}{subject}: {}", word(*status), printable(found));
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "         -> {}", printable(remedy));
        }
    }
    let _ = match document.status {
        Status::Ok => writeln!(text, "All is well: {} checks.", document.count(Status::Ok)),
        _ => writeln!(text, "{}", Status::ALL.map(|status| counted(document, status)).join(", ")),
    };
    text
}

/// How many findings have a status.
fn counted(document: &Document, status: Status) -> String {
    let (count, word) = (document.count(status), status.key());
    match status {
        Status::Ok => format!("{count} {word}"),
        Status::Warning | Status::Failure => format!("{count} {}", plural(count, word)),
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::Warning => status.key(),
        Status::Failure => "FAILURE",
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
