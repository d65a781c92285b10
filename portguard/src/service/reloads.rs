//! How reloads went: counted by the reconciler, read by the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use crate::service::metrics::page;

/// What became of the file when it was looked at; the worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It holds what is in force already.
    Same,
    /// What it holds was put in force.
    Done,
    /// It holds no list, or one that could not be put in force everywhere.
    Failed,
}

/// Shared by those who count and those who read.
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

    /// The file was found broken when it was not to be reloaded.
    pub(super) fn found_broken(&self) {
        self.change(|reloads| reloads.last_ok = false);
    }

    pub(super) fn read(&self) -> page::Reloads {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut page::Reloads)) {
        // Nothing that can panic happens under the lock.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
