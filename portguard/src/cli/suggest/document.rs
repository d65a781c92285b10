//! A proposed allowlist.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

use crate::printable::serialize_path;
use crate::suggest::proposal::Proposal;

/// The document of `suggest --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// The list.
    #[serde(flatten)]
    pub proposal: Proposal,
    /// With `--merge`: what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    /// Whether it is of files that were named, and not of what this host knows.
    #[serde(skip)]
    pub from_files: bool,
}

/// A list, and what of the proposal it does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Merge {
    /// The file of the list.
    #[serde(serialize_with = "serialize_path")]
    pub allowlist: PathBuf,
    /// The SHA-256 of the list without the new entries.
    pub sha256: String,
    /// The prefixes of the entries that are new, in the order in which they are added.
    pub new: Vec<IpNet>,
}

impl Document {
    /// A document of this version.
    pub fn new(proposal: Proposal) -> Self {
        Self { schema: 1, proposal, merge: None, from_files: false }
    }
}
