//! What portguard prints as JSON, read by somebody who knows nothing of the code that writes it: every field is known, and
//! none is left out.

#![expect(missing_docs, reason = "fields have the names and meanings of the JSON")]

pub mod change;
pub mod doctor;
pub mod explain;
pub mod probe;
pub mod report;
mod stats;
mod status;
pub mod suggest;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

pub use stats::{ByProcedure, ByReason, Calls, NotShown, Source, Stats, Totals};
pub use status::{
    AllowlistStatus, ConfirmationStatus, FileStatus, OrderStatus, Owner, ProgramStatus, ServiceStatus,
    Status, Unguarded,
};

/// A text, or an empty one for `null`.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// The version of all documents.
const SCHEMA: u32 = 1;

/// `status --json` and `stats --json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document<T> {
    pub schema: u32,
    #[serde(rename = "taken_at")]
    _taken_at: Option<String>,
    pub interfaces: Vec<T>,
    /// Of `status --json`.
    #[serde(default)]
    pub unguarded: Vec<Unguarded>,
}

impl<T: DeserializeOwned> Document<T> {
    /// Reads what a command has printed.
    pub fn parse(json: &str) -> Result<Self> {
        let document: Self = serde_json::from_str(json).with_context(|| format!("it has printed {json}"))?;
        ensure!(document.schema == SCHEMA, "its schema is {}, not {SCHEMA}", document.schema);
        Ok(document)
    }
}
