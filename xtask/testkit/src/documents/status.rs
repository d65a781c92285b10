//! `status --json`.

use serde::Deserialize;

use super::or_empty;

/// A guard, as `status --json` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    pub interface: String,
    pub ifindex: u32,
    pub hook: String,
    /// Empty at tcx, which has none.
    #[serde(deserialize_with = "or_empty")]
    pub mode: String,
    pub enforcing: bool,
    pub generation: u64,
    pub pinned: String,
    pub attached_at: String,
    pub allowlist: AllowlistStatus,
    pub confirmation: Option<ConfirmationStatus>,
    pub program: ProgramStatus,
    pub order: OrderStatus,
    pub service: Option<ServiceStatus>,
}

/// What a guard is ordered to do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderStatus {
    pub allowlist: String,
    pub hook: String,
    /// Empty at tcx, which has none.
    #[serde(deserialize_with = "or_empty")]
    pub mode: String,
    pub audit: bool,
    pub sources: u32,
    pub log_rate: Option<u32>,
}

/// The service that keeps a guard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceStatus {
    pub pid: u32,
    pub unit: Option<String>,
    pub as_ordered: bool,
    pub differences: Vec<String>,
}

/// An interface that should have a guard and has none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unguarded {
    pub interface: String,
    pub state: String,
    pub service: Option<Owner>,
    pub why: Option<String>,
}

/// The service that is to guard an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub pid: u32,
    pub unit: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmationStatus {
    pub state: String,
    pub deadline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowlistStatus {
    pub path: String,
    pub sha256: String,
    pub prefixes_v4: u32,
    pub prefixes_v6: u32,
    pub udp: String,
    pub conditional: u32,
    pub deadlines_off_by: u64,
    pub loaded_at: String,
    pub changed_on_disk: bool,
    pub origin: String,
    pub file: FileStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStatus {
    pub state: String,
    pub problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramStatus {
    pub id: u32,
    pub name: String,
    pub tag: String,
    pub abi_version: u32,
}
