//! The order of a service.

use std::path::PathBuf;

use crate::error::Result;
use crate::guard::{Guard, HookChoice, LogLimit, Named};
use crate::printable::counted;

/// The order of a service, for all interfaces that it keeps.
#[derive(Debug, Clone)]
pub struct ServiceOrder {
    /// The file of the list.
    pub allowlist: PathBuf,
    /// Where the guards run; `None` permits any hook and mode.
    pub hook: Option<HookChoice>,
    /// Whether the guards run in audit mode.
    pub audit: bool,
    /// The number of sources that each CPU remembers; `None` leaves an existing guard unchanged.
    pub sources: Option<u32>,
    /// The limit of the drop log.
    pub log: LogLimit,
}

impl ServiceOrder {
    pub(super) fn named(&self) -> Named {
        let &Self { allowlist: _, hook, audit, sources, log } = self;
        Named { hook, audit: Some(audit), sources, log: Some(log) }
    }

    /// The parts of a guard that differ from the order.
    pub(super) fn differences(&self, guard: &Guard) -> Result<Differences> {
        let mut parts = guard.order()?.differences_from(&self.allowlist, self.named());
        let in_front = guard.programs_in_front()?.len();
        if in_front > 0 {
            parts.push(format!("{} in front of it at tcx -> first", counted(in_front as u64, "program")));
        }
        Ok(Differences { parts, is_behind: in_front > 0 })
    }
}

/// The parts of a guard that differ from an order.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// A text for each: `audit -> enforcing`.
    parts: Vec<String>,
    /// Whether programs of others are in front of it at tcx.
    pub(super) is_behind: bool,
}

impl Differences {
    /// Whether nothing differs but that programs of others are in front of it.
    pub(super) fn is_position_only(&self) -> bool {
        self.is_behind && self.parts.len() == 1
    }

    /// All of them in one line; `None` if there are none.
    pub(super) fn text(&self) -> Option<String> {
        (!self.parts.is_empty()).then(|| self.parts.join(", "))
    }
}
