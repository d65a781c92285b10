//! What a check has found.

use portguard_common::listed;
use serde::Serialize;

use super::remedy::{Remedy, RemedyKind};

listed! {
    /// How bad it is.
    #[derive(PartialOrd, Ord, Serialize)]
    #[serde(into = "&'static str")]
    pub enum Status {
        /// As it should be.
        Ok = "ok",
        /// The guard works, but not as well as it could; or something could not be seen.
        Warning = "warning",
        /// The port is open, or a guard cannot be put on.
        Failure = "failure",
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "Fields")]
pub struct Finding {
    /// The name of the check. None is renamed.
    pub id: &'static str,
    /// What was looked at, if there may be several: an interface, or a service.
    pub subject: Option<String>,
    /// How bad it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing, if all is well.
    pub remedy: Option<Remedy>,
}

/// The fields of the JSON.
#[derive(Serialize)]
struct Fields {
    id: &'static str,
    subject: Option<String>,
    status: Status,
    found: String,
    remedy: Option<String>,
    remedy_kind: Option<RemedyKind>,
}

impl From<Finding> for Fields {
    fn from(Finding { id, subject, status, found, remedy }: Finding) -> Self {
        let (remedy, remedy_kind) = remedy.map(|remedy| (remedy.text, remedy.kind)).unzip();
        Self { id, subject, status, found, remedy, remedy_kind }
    }
}

impl Finding {
    /// All is well.
    pub fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self { id, subject: None, status: Status::Ok, found: found.into(), remedy: None }
    }

    /// Something could be better.
    pub fn warning(id: &'static str, found: impl Into<String>, remedy: Remedy) -> Self {
        Self { status: Status::Warning, remedy: Some(remedy), ..Self::ok(id, found) }
    }

    /// Something is wrong.
    pub fn failure(id: &'static str, found: impl Into<String>, remedy: Remedy) -> Self {
        Self { status: Status::Failure, remedy: Some(remedy), ..Self::ok(id, found) }
    }

    /// Says what it is about.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}
