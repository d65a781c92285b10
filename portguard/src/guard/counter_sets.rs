//! All counters of a guard: the set that its program writes, and earlier sets, which no program writes any more.
//!
//! An upgrade to another ABI, a change of the sizes, and a reset begin new counters. The earlier maps are pinned beside
//! the new ones before the program changes, and readers add both. A kill at any moment therefore loses no count.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use portguard_common::rpc::Requests;
use portguard_common::totals::{Count, Totals};

use crate::error::Result;
use crate::guard::counters::{Counters, SetId, Snapshot, Sums};
use crate::guard::denied_source::{Asked, Source};

/// The sets of counters of an instance.
#[derive(Debug)]
pub struct CounterSets {
    /// The set that the program of the instance writes.
    pub own: Counters,
    /// The earlier sets, oldest first.
    pub earlier: Vec<Counters>,
}

impl CounterSets {
    /// The identities of the sets, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = SetId> {
        self.all().map(Counters::id)
    }

    fn all(&self) -> impl Iterator<Item = &Counters> {
        self.earlier.iter().chain([&self.own])
    }

    /// The sum of the totals of all sets; the source tables are not included.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.all().for_each(|set| totals.add(&set.totals()));
        totals
    }

    /// The sums over all sets, without a list of sources. The fill of the source tables is that of the program's own
    /// set.
    pub fn sums(&self) -> Sums {
        let mut sums = self.own.sums();
        for set in &self.earlier {
            let Sums { totals, denied, unattributed, v4: _, v6: _ } = set.sums();
            sums.totals.add(&totals);
            add_each(&mut sums.denied, denied);
            sums.unattributed.add(unattributed);
        }
        sums
    }

    /// Reads and merges all sets.
    pub fn read(&self) -> Result<Snapshot> {
        let mut sum = self.own.read()?;
        for set in self.earlier.iter().rev() {
            sum = merge(set.read()?, sum);
        }
        Ok(sum)
    }
}

/// Merges the contents of an earlier set and of the set that followed it.
pub(super) fn merge(earlier: Snapshot, mut later: Snapshot) -> Snapshot {
    for (sum, more) in [
        (&mut later.allowed, earlier.allowed),
        (&mut later.would_drop, earlier.would_drop),
        (&mut later.unattributed, earlier.unattributed),
    ] {
        sum.add(more);
    }
    add_each(&mut later.denied, earlier.denied);
    add_each(&mut later.faults, earlier.faults);
    add_requests(&mut later.requests, &earlier.requests);
    later.not_logged = later.not_logged.wrapping_add(earlier.not_logged);
    later.sources = merge_sources(earlier.sources, later.sources);
    later.since = earlier.since.min(later.since);
    // Readers must see the same counters as before: none of the sums has begun again at zero.
    later.set = earlier.set;
    later
}

fn add_each<const N: usize>(sums: &mut [Count; N], more: [Count; N]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| sum.add(more));
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
