//! A proposed allowlist.

use serde::Serialize;

use crate::suggest::proposal::Proposal;

/// The document of `suggest --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// The list.
    #[serde(flatten)]
    pub proposal: Proposal,
}

impl Document {
    /// A document of this version.
    pub fn new(proposal: Proposal) -> Self {
        Self { schema: 1, proposal }
    }
}
