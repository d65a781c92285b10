//! `stats --json`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portguard_common::reason::{Denial, DropReason};
use portguard_common::rpc::{self, Procedure};
use serde::Deserialize;

use super::or_empty;
use crate::net::{Count, sum};

/// The counters of a guard, as `stats --json` tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    pub interface: String,
    pub hook: String,
    /// Empty at tcx, which has none.
    #[serde(deserialize_with = "or_empty")]
    pub mode: String,
    pub enforcing: bool,
    pub since: String,
    pub totals: Totals,
    pub sources: Vec<Source>,
    pub not_shown: NotShown,
    pub unattributed: Count,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    pub allowed: Count,
    pub dropped: Count,
    pub would_drop: Count,
    pub by_reason: ByReason,
    pub calls: Calls,
    pub not_logged: u64,
}

/// By the key of the reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ByReason(BTreeMap<String, Count>);

impl ByReason {
    /// What was counted for a reason.
    pub fn of(&self, reason: &str) -> Count {
        *self.0.get(reason).unwrap_or_else(|| panic!("no {reason} in {self:?}"))
    }

    /// What was counted for each, by its key.
    pub fn each(&self) -> impl Iterator<Item = (&str, Count)> {
        self.0.iter().map(|(reason, count)| (&**reason, *count))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub source: IpAddr,
    pub packets: u64,
    pub bytes: u64,
    pub udp_packets: u64,
    pub tcp_packets: u64,
    pub first_seen: String,
    pub last_seen: String,
    pub calls: Calls,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    pub udp: ByProcedure,
    pub tcp_best_effort: ByProcedure,
}

/// By procedure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, u64>")]
pub struct ByProcedure(rpc::ByProcedure<u64>);

impl TryFrom<BTreeMap<String, u64>> for ByProcedure {
    type Error = String;

    fn try_from(counts: BTreeMap<String, u64>) -> Result<Self, String> {
        let mut by_procedure = Self::default();
        for procedure in Procedure::ALL {
            let count = counts.get(procedure.key()).ok_or_else(|| format!("no {procedure:?}"))?;
            by_procedure.0[procedure as usize] = *count;
        }
        if counts.len() == Procedure::ALL.len() { Ok(by_procedure) } else { Err(format!("more: {counts:?}")) }
    }
}

impl ByProcedure {
    /// The counter of the procedure with that key.
    pub fn of(&self, procedure: &str) -> u64 {
        let mut copy = *self;
        *copy.counter(procedure)
    }

    /// The same, to count.
    pub fn counter(&mut self, procedure: &str) -> &mut u64 {
        let known = Procedure::from_key(procedure);
        &mut self.0[known.unwrap_or_else(|| panic!("{procedure} is no procedure")) as usize]
    }

    /// The counters, in the order of the columns of the table.
    pub fn counts(self) -> impl Iterator<Item = u64> {
        self.0.into_iter()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotShown {
    pub sources: u64,
    pub packets: u64,
    pub bytes: u64,
}

impl Calls {
    /// In the order of the columns of the table.
    pub fn cells(&self) -> Vec<String> {
        self.udp.counts().chain(self.tcp_best_effort.counts()).map(|count| count.to_string()).collect()
    }
}

impl Source {
    pub fn count(&self) -> Count {
        Count { packets: self.packets, bytes: self.bytes }
    }
}

impl Stats {
    /// The denied packets, by source.
    pub fn by_source(&self) -> BTreeMap<IpAddr, Count> {
        self.sources.iter().map(|source| (source.source, source.count())).collect()
    }

    /// All packets that are counted by source.
    pub fn denied(&self) -> Count {
        sum(Denial::ALL.map(|denial| self.totals.by_reason.of(denial.key())))
    }

    /// All packets for port 111.
    pub fn packets(&self) -> u64 {
        self.totals.allowed.packets + self.denied().packets
    }

    /// What every such document promises.
    pub fn assert_adds_up(&self) {
        let Totals { dropped, would_drop, by_reason, .. } = &self.totals;
        let NotShown { packets, bytes, .. } = self.not_shown;
        let sources = self.sources.iter().map(Source::count);
        assert_eq!(
            sum(sources.chain([Count { packets, bytes }, self.unattributed])),
            self.denied(),
            "sources, not_shown and unattributed are all that was denied: {self:?}"
        );
        assert_eq!(by_reason.0.len(), DropReason::ALL.len(), "{by_reason:?}");
        assert_eq!(
            sum(by_reason.each().map(|(_, count)| count)),
            sum([*dropped, *would_drop]),
            "each reason is counted in dropped or in would_drop: {:?}",
            self.totals
        );
        let mut addresses: Vec<IpAddr> = self.sources.iter().map(|source| source.source).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), self.sources.len(), "a source has one row");
        for source in &self.sources {
            assert_eq!(source.udp_packets + source.tcp_packets, source.packets, "{source:?}");
            assert!(
                self.since <= source.first_seen && source.first_seen <= source.last_seen,
                "RFC 3339 in UTC sorts as text: {source:?} since {}",
                self.since
            );
        }
    }
}
