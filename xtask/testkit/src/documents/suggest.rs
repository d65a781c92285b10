//! `suggest --json`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: u32,
    pub entries: Vec<Entry>,
    pub left_out: Vec<LeftOut>,
    pub unproven: Vec<Entry>,
    pub unproven_more: usize,
    #[serde(default)]
    pub merge: Option<Merge>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    pub allowlist: String,
    pub sha256: String,
    pub new: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub prefix: String,
    pub origins: Vec<Origin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    pub origin: String,
    pub detail: Option<String>,
    pub covers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    pub what: String,
    pub origin: String,
    pub why: String,
}
