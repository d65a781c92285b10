//! `explain --json`.

use std::net::IpAddr;

use serde::Deserialize;

use super::{ServiceStatus, Unguarded};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: u32,
    pub verdicts: Vec<Verdict>,
    pub unguarded: Vec<Unguarded>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    pub source: IpAddr,
    pub interface: Option<String>,
    pub verdict: String,
    pub reason: Option<String>,
    pub at: Option<String>,
    pub judged_by: String,
    pub protocols: Vec<String>,
    pub call: Option<String>,
    pub allowlist: List,
    pub entry: Option<Entry>,
    pub nearest: Option<Entry>,
    pub same_program: Option<bool>,
    pub note: Option<String>,
    pub enforcing: Option<bool>,
    pub service: Option<ServiceStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub path: String,
    pub sha256: String,
    pub generation: Option<u64>,
    pub udp: String,
    pub changed_on_disk: bool,
    pub lines_of: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub prefix: String,
    pub line: Option<u32>,
    pub comment: Option<String>,
    pub conditions: Option<Conditions>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    pub interfaces: Option<Vec<String>>,
    pub until: Option<String>,
    pub udp: Option<String>,
    pub rate: Option<u32>,
}
