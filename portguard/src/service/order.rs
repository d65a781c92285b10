//! The order of a service.

use std::path::PathBuf;

use crate::error::Result;
use crate::guard::{Guard, LogLimit, ModeChoice, Named};

/// The order of a service, for all interfaces that it keeps.
#[derive(Debug, Clone)]
pub struct ServiceOrder {
    /// The file of the list.
    pub allowlist: PathBuf,
    /// The mode of the guards; `None` permits any mode.
    pub mode: Option<ModeChoice>,
    /// Whether the guards run in audit mode.
    pub audit: bool,
    /// The number of sources that each CPU remembers; `None` leaves an existing guard unchanged.
    pub sources: Option<u32>,
    /// The limit of the drop log.
    pub log: LogLimit,
}

impl ServiceOrder {
    pub(super) fn named(&self) -> Named {
        let &Self { allowlist: _, mode, audit, sources, log } = self;
        Named { mode, audit: Some(audit), sources, log: Some(log) }
    }

    /// The parts of a guard that differ from the order, a text for each: `audit -> enforcing`.
    pub(super) fn differences(&self, guard: &Guard) -> Result<Vec<String>> {
        Ok(guard.order()?.differences_from(&self.allowlist, self.named()))
    }
}
