//! All that a guard has counted: the counters that its program writes, and earlier ones that nothing writes to any more.
//!
//! An upgrade to another ABI and a change of the sizes begin new counters, and so does a reset. The earlier maps are pinned
//! beside the new ones before the program changes, so a kill at any moment loses nothing, and readers add both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use portguard_common::rpc::Requests;
use portguard_common::totals::Totals;

use crate::error::Result;
use crate::guard::counters::{Counters, SetId, Snapshot, Sums};
use crate::guard::source::{Asked, Source};

/// The sets of counters of an instance.
#[derive(Debug)]
pub struct CounterSets {
    /// What the program counts now.
    pub own: Counters,
    /// What others have counted before it, oldest first.
    pub earlier: Vec<Counters>,
}

impl CounterSets {
    /// Which sets there are, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = SetId> {
        self.all().map(Counters::id)
    }

    fn all(&self) -> impl Iterator<Item = &Counters> {
        self.earlier.iter().chain([&self.own])
    }

    /// What all of them have counted, but for the sources.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.all().for_each(|set| totals.add(&set.totals()));
        totals
    }

    /// What they hold now, without the sources. How full the source tables are is told of the program's own.
    pub fn sums(&self) -> Sums {
        let mut sums = self.own.sums();
        for set in &self.earlier {
            let Sums { totals, not_allowed, unattributed, v4: _, v6: _ } = set.sums();
            sums.totals.add(&totals);
            sums.not_allowed.add(not_allowed);
            sums.unattributed.add(unattributed);
        }
        sums
    }

    /// What they hold now.
    pub fn read(&self) -> Result<Snapshot> {
        let mut sum = self.own.read()?;
        for set in self.earlier.iter().rev() {
            sum = merge(set.read()?, sum);
        }
        Ok(sum)
    }
}

/// What two sets hold together: an earlier one and one that goes on from it.
pub(super) fn merge(earlier: Snapshot, mut later: Snapshot) -> Snapshot {
    for (sum, more) in [
        (&mut later.allowed, earlier.allowed),
        (&mut later.not_allowed, earlier.not_allowed),
        (&mut later.would_drop, earlier.would_drop),
        (&mut later.unattributed, earlier.unattributed),
    ] {
        sum.add(more);
    }
    for (sum, more) in later.faults.iter_mut().zip(earlier.faults) {
        sum.add(more);
    }
    add_requests(&mut later.requests, &earlier.requests);
    later.not_logged = later.not_logged.wrapping_add(earlier.not_logged);
    later.sources = merge_sources(earlier.sources, later.sources);
    later.since = earlier.since.min(later.since);
    // A reader takes it for the same counters as before: nothing has begun anew.
    later.set = earlier.set;
    later
}

fn merge_sources(earlier: Vec<Source>, later: Vec<Source>) -> Vec<Source> {
    if earlier.is_empty() {
        return later;
    }
    let mut sources: HashMap<_, Source> = later.into_iter().map(|source| (source.address, source)).collect();
    for source in earlier {
        match sources.entry(source.address) {
            Entry::Vacant(free) => {
                free.insert(source);
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.count.add(source.count);
                let mut requests = Requests::from(&known.asked);
                add_requests(&mut requests, &Requests::from(&source.asked));
                known.asked = Asked::from(&requests);
                known.first_seen = known.first_seen.min(source.first_seen);
                known.last_seen = known.last_seen.max(source.last_seen);
            }
        }
    }
    sources.into_values().collect()
}

fn add_requests(sum: &mut Requests, more: &Requests) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.wrapping_add(*more);
    }
}
