//! What a service is ordered to do.

use std::path::PathBuf;

use crate::error::Result;
use crate::guard::{Guard, LogLimit, ModeChoice, Named};

/// What a service is ordered to do with the interfaces that it keeps.
#[derive(Debug, Clone)]
pub struct ServiceOrder {
    /// The file of the list.
    pub allowlist: PathBuf,
    /// How the kernel runs the guards; either way if absent.
    pub mode: Option<ModeChoice>,
    /// Whether the guards only count what they would drop.
    pub audit: bool,
    /// How many sources each CPU remembers; whatever a guard that is there has if absent.
    pub sources: Option<u32>,
    /// How many drops may be logged.
    pub log: LogLimit,
}

impl ServiceOrder {
    pub(super) fn named(&self) -> Named {
        let &Self { allowlist: _, mode, audit, sources, log } = self;
        Named { mode, audit: Some(audit), sources, log: Some(log) }
    }

    /// What a guard does otherwise than ordered, a line for each part: `audit -> enforcing`.
    pub(super) fn differences(&self, guard: &Guard) -> Result<Vec<String>> {
        Ok(guard.order()?.differences_from(&self.allowlist, self.named()))
    }
}
