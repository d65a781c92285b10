//! The results of reloads: the reconciler counts them, and the metrics read them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::service::metrics::page;

/// The result of a reload of the file. A worse result is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The file has the list in force.
    Same,
    /// The list of the file was put in force.
    Done,
    /// The file has no list, or a list that could not be put in force on all interfaces.
    Failed,
}

/// The counters of results, which the reconciler and the metrics share.
#[derive(Debug, Clone)]
pub(super) struct Reloads(Arc<Mutex<page::Reloads>>);

impl Reloads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(page::Reloads { ok: 0, failed: 0, last_ok: true })))
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.change(|reloads| {
            match outcome {
                Outcome::Same => {}
                Outcome::Done => reloads.ok += 1,
                Outcome::Failed => reloads.failed += 1,
            }
            reloads.last_ok = outcome != Outcome::Failed;
        });
    }

    /// Records that the file was found broken outside of a reload.
    pub(super) fn found_broken(&self) {
        self.change(|reloads| reloads.last_ok = false);
    }

    pub(super) fn read(&self) -> page::Reloads {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut page::Reloads)) {
        // No code that can panic runs under the lock.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
