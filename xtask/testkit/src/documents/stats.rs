//! `stats --json`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::net::{Count, sum};

/// The counters of a guard, as `stats --json` tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    pub interface: String,
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

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByReason {
    pub not_allowed: Count,
    pub truncated: Count,
    pub malformed: Count,
    pub too_many_headers: Count,
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByProcedure {
    pub null: u64,
    pub getaddr: u64,
    pub dump: u64,
    pub callit: u64,
    pub getstat: u64,
    pub set: u64,
    pub other_rpc: u64,
    pub not_rpc: u64,
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
        let cells = |by: &ByProcedure| {
            [by.null, by.getaddr, by.dump, by.callit, by.getstat, by.set, by.other_rpc, by.not_rpc]
        };
        [cells(&self.udp), cells(&self.tcp_best_effort)].concat().iter().map(u64::to_string).collect()
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

    /// All packets for port 111.
    pub fn packets(&self) -> u64 {
        self.totals.allowed.packets + self.totals.by_reason.not_allowed.packets
    }

    /// What every such document promises.
    pub fn assert_adds_up(&self) {
        let Totals { dropped, would_drop, by_reason, .. } = &self.totals;
        let NotShown { packets, bytes, .. } = self.not_shown;
        let sources = self.sources.iter().map(Source::count);
        assert_eq!(
            sum(sources.chain([Count { packets, bytes }, self.unattributed])),
            by_reason.not_allowed,
            "sources, not_shown and unattributed are all that was not allowed: {self:?}"
        );
        let ByReason { not_allowed, truncated, malformed, too_many_headers } = *by_reason;
        assert_eq!(
            sum([not_allowed, truncated, malformed, too_many_headers]),
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
