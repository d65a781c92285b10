//! Sets the counters of a guard back to zero, in two steps, so that nothing is lost between them: new counters begin, with
//! the old ones beside them, where every reader still adds them; and when what they held has been written, they are removed.

use std::path::PathBuf;

use crate::error::Result;
use crate::guard::counter_sets::merge;
use crate::guard::counters::Snapshot;
use crate::guard::event::{EndReason, Event, Whose, tell_end};
use crate::guard::{Guard, earlier};

/// Counters that are to be removed.
#[derive(Debug)]
#[must_use = "counters that are not retired count on"]
pub struct Reset {
    /// What they held at the very end of their time. Sets that another reset is writing down are not among them.
    pub held: Snapshot,
    /// Whether the counters of now go on, because there were too many earlier sets to begin new ones.
    pub is_partial: bool,
    interface: PathBuf,
    claims: Vec<earlier::Claim>,
}

impl Reset {
    /// The first step. The caller holds the lock.
    ///
    /// # Errors
    /// The kernel refuses, or the counters cannot be read. They go on as they were, or are added to the new ones.
    pub fn begin(guard: Guard, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        // Where earlier resets could not write what they held, this one takes that, and so makes room for the next one.
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
        // There is at least the set that has just ended.
        let held = held.map_or_else(|| guard.counters(), Ok)?;
        Ok(Self { held, is_partial: is_full, interface, claims })
    }

    /// The second step: removes them. The caller holds the lock.
    ///
    /// # Errors
    /// The pins cannot be removed.
    pub fn retire(self) -> Result<()> {
        self.claims.iter().try_for_each(|claim| earlier::remove(&self.interface, claim.set))
    }
}
