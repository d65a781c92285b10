//! What is well on a host, and what is not.

use serde::Serialize;

use crate::doctor::{Finding, Status};

/// The document of `doctor --json`. Fields may be added; no field is renamed or removed.
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

    pub(super) fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}
