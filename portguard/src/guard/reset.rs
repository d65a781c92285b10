//! Sets the counters of a guard back to zero, in two steps, so that no count is lost. First, new counters begin. The
//! old ones remain beside them, and readers still add both. After the contents of the old counters have been written,
//! the second step removes them.

use std::path::PathBuf;

use crate::error::Result;
use crate::guard::counter_sets::merge;
use crate::guard::counters::Snapshot;
use crate::guard::event::{EndReason, Event, Whose, tell_end};
use crate::guard::{Guard, earlier};

/// A reset between its two steps: it holds claims on the counters that the second step removes.
#[derive(Debug)]
#[must_use = "counters that are not retired count on"]
pub struct Reset {
    /// The final contents of these counters. Sets that another reset has claimed are not included.
    pub held: Snapshot,
    /// Whether the current counters continue, because there were too many earlier sets to begin new counters.
    pub is_partial: bool,
    interface: PathBuf,
    claims: Vec<earlier::Claim>,
}

impl Reset {
    /// The first step. The caller holds the lock.
    ///
    /// # Errors
    /// The kernel refuses, or the counters cannot be read. The counters continue, or readers add them to the new ones.
    pub fn begin(guard: Guard, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        // If earlier resets could not write their contents, this reset takes those sets, and makes room for the next
        // one.
        let is_full = guard.instance.counters.earlier.len() >= earlier::MOST;
        let guard = if is_full { guard } else { guard.begin_counters(tell)? };
        let interface = guard.pinned.directory.clone();
        let claims = earlier::claim(&interface)?;
        let claimed = |set: &_| claims.iter().any(|claim| claim.set == *set);
        let mut held: Option<Snapshot> = None;
        for set in guard.instance.counters.earlier.iter().filter(|set| claimed(&set.id())) {
            let whose = Whose::of(&interface, guard.is_enforcing());
            tell_end(whose, set, EndReason::Reset, tell);
            let more = set.read()?;
            held = Some(match held {
                Some(sum) => merge(sum, more),
                None => more,
            });
        }
        // Normally there is at least the set that has just ended.
        let held = held.map_or_else(|| guard.counters(), Ok)?;
        Ok(Self { held, is_partial: is_full, interface, claims })
    }

    /// The second step: removes the old counters. The caller holds the lock.
    ///
    /// # Errors
    /// The pins cannot be removed.
    pub fn retire(self) -> Result<()> {
        self.claims.iter().try_for_each(|claim| earlier::remove(&self.interface, claim.set))
    }
}
