//! What the guard has counted, in the terms of the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, ensure};
use portguard_testkit::documents::{Source, Stats};
use portguard_testkit::net::{Count, sum};

/// What went over the wire to port 111, by what has to become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) allowed: Count,
    pub(super) dropped: BTreeMap<IpAddr, Count>,
}

impl Counted {
    /// Adds what the wire saw since the last time.
    pub(super) fn book(
        &mut self,
        requests: &BTreeMap<IpAddr, Count>,
        earlier: &BTreeMap<IpAddr, Count>,
        is_allowed: impl Fn(IpAddr) -> bool,
    ) {
        for (&source, &count) in requests {
            let new = count.since(earlier.get(&source).copied().unwrap_or_default());
            if new == Count::default() {
                continue;
            }
            if is_allowed(source) {
                self.allowed += new;
            } else {
                *self.dropped.entry(source).or_default() += new;
            }
        }
    }

    /// Where the guard's view differs from this one of the wire, line by line.
    pub(super) fn differences(&self, counted: &Self) -> Vec<String> {
        let sources: BTreeSet<_> = self.dropped.keys().chain(counted.dropped.keys()).collect();
        let of = |counted: &Self, source| counted.dropped.get(source).copied().unwrap_or_default();
        let dropped = sources
            .into_iter()
            .map(|source| (format!("dropped from {source}"), of(self, source), of(counted, source)));
        [("allowed".to_owned(), self.allowed, counted.allowed)]
            .into_iter()
            .chain(dropped)
            .filter(|(_, wire, counted)| wire != counted)
            .map(|(what, wire, counted)| format!("{what}: the wire saw {wire}, portguard counted {counted}"))
            .collect()
    }

    /// The sum over all sources.
    pub(super) fn total_dropped(&self) -> Count {
        sum(self.dropped.values().copied())
    }
}

/// The guard's own view, in the terms of the wire. Fails when its sums do not add up.
pub(super) fn counted(stats: &Stats) -> Result<Counted> {
    ensure!(
        stats.unattributed == Count::default(),
        "a handful of sources, and yet {} are unattributed",
        stats.unattributed
    );
    let dropped = stats.sources.iter().map(|source| (source.source, Source::count(source))).collect();
    let counted = Counted { allowed: stats.totals.allowed, dropped };
    ensure!(
        counted.total_dropped() == stats.totals.dropped,
        "the sources add up to {}, the total is {}",
        counted.total_dropped(),
        stats.totals.dropped
    );
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 68 }
    }

    #[test]
    fn a_source_is_booked_by_what_holds_at_its_time() {
        let source: IpAddr = "198.51.100.20".parse().unwrap();
        let (first, second) = (BTreeMap::from([(source, count(3))]), BTreeMap::from([(source, count(5))]));
        let mut counted = Counted::default();
        counted.book(&first, &BTreeMap::new(), |_| false);
        counted.book(&second, &first, |_| true);
        counted.book(&second, &second, |_| false);
        assert_eq!(counted, Counted { allowed: count(2), dropped: first });
    }

    #[test]
    fn differences_name_the_source_and_both_counts() {
        let [a, b]: [IpAddr; 2] = ["192.0.2.7", "198.51.100.20"].map(|source| source.parse().unwrap());
        let wire = Counted { allowed: count(1), dropped: BTreeMap::from([(a, count(3)), (b, count(1))]) };
        let counted = Counted { allowed: count(1), dropped: BTreeMap::from([(b, count(2))]) };
        assert_eq!(wire.differences(&wire), [""; 0]);
        assert_eq!(
            wire.differences(&counted),
            [
                "dropped from 192.0.2.7: the wire saw 3 packets (204 bytes), portguard counted 0 packets (0 bytes)",
                "dropped from 198.51.100.20: the wire saw 1 packets (68 bytes), portguard counted 2 packets (136 bytes)",
            ]
        );
    }
}
