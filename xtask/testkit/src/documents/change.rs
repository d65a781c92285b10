//! `allow --json` and `revoke --json`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: u32,
    pub allowlist: String,
    pub sha256: String,
    pub written: bool,
    pub added: Vec<Entry>,
    pub conditions: Option<Conditions>,
    pub removed: Vec<Entry>,
    pub changed: Vec<Entry>,
    pub present: Vec<Entry>,
    pub guards: Option<Vec<Guard>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub prefix: String,
    pub line: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    pub interfaces: Option<Vec<String>>,
    pub until: Option<String>,
    pub udp: Option<String>,
    pub rate: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    pub interface: String,
    pub generation: Option<u64>,
    pub in_force: bool,
}
