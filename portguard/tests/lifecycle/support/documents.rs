//! `status --json` and `stats --json`, read by somebody who knows nothing of the code that writes them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portguard_testkit::net::Count;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document<T> {
    pub(super) schema: u32,
    #[serde(rename = "taken_at")]
    _taken_at: Option<String>,
    pub(super) interfaces: Vec<T>,
    /// Of `status --json`.
    #[serde(default)]
    pub(super) unguarded: Vec<Unguarded>,
}

/// A guard, as `status --json` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) interface: String,
    pub(crate) ifindex: u32,
    pub(crate) mode: String,
    pub(crate) enforcing: bool,
    pub(crate) generation: u64,
    pub(crate) pinned: String,
    pub(crate) attached_at: String,
    pub(crate) allowlist: AllowlistStatus,
    pub(crate) confirmation: Option<ConfirmationStatus>,
    pub(crate) program: ProgramStatus,
    pub(crate) order: OrderStatus,
    pub(crate) service: Option<ServiceStatus>,
}

/// What a guard is ordered to do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderStatus {
    pub(crate) allowlist: String,
    pub(crate) mode: String,
    pub(crate) audit: bool,
    pub(crate) sources: u32,
    pub(crate) log_rate: Option<u32>,
}

/// The service that keeps a guard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceStatus {
    pub(crate) pid: u32,
    pub(crate) unit: Option<String>,
    pub(crate) as_ordered: bool,
    pub(crate) differences: Vec<String>,
}

/// An interface that should have a guard and has none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unguarded {
    pub(crate) interface: String,
    pub(crate) state: String,
    pub(crate) service: Option<Owner>,
    pub(crate) why: Option<String>,
}

/// The service that is to guard an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) unit: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmationStatus {
    pub(crate) state: String,
    pub(crate) deadline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowlistStatus {
    pub(crate) path: String,
    pub(crate) sha256: String,
    pub(crate) prefixes_v4: u32,
    pub(crate) prefixes_v6: u32,
    pub(crate) loaded_at: String,
    pub(crate) changed_on_disk: bool,
    pub(crate) origin: String,
    pub(crate) file: FileStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileStatus {
    pub(crate) state: String,
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramStatus {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) abi_version: u32,
}

/// The counters of a guard, as `stats --json` tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stats {
    pub(crate) interface: String,
    pub(crate) mode: String,
    pub(crate) enforcing: bool,
    pub(crate) since: String,
    pub(crate) totals: Totals,
    pub(crate) sources: Vec<Source>,
    pub(crate) not_shown: NotShown,
    pub(crate) unattributed: Count,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    pub(crate) allowed: Count,
    pub(crate) dropped: Count,
    pub(crate) would_drop: Count,
    pub(crate) by_reason: ByReason,
    pub(crate) calls: Calls,
    pub(crate) not_logged: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByReason {
    pub(crate) not_allowed: Count,
    pub(crate) truncated: Count,
    pub(crate) malformed: Count,
    pub(crate) too_many_headers: Count,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) source: IpAddr,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) udp_packets: u64,
    pub(crate) tcp_packets: u64,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) calls: Calls,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calls {
    pub(crate) udp: ByProcedure,
    pub(crate) tcp_best_effort: ByProcedure,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByProcedure {
    pub(crate) null: u64,
    pub(crate) getaddr: u64,
    pub(crate) dump: u64,
    pub(crate) callit: u64,
    pub(crate) getstat: u64,
    pub(crate) set: u64,
    pub(crate) other_rpc: u64,
    pub(crate) not_rpc: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotShown {
    pub(crate) sources: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Calls {
    /// In the order of the columns of the table.
    pub(crate) fn cells(&self) -> Vec<String> {
        let cells = |by: &ByProcedure| {
            [by.null, by.getaddr, by.dump, by.callit, by.getstat, by.set, by.other_rpc, by.not_rpc]
        };
        [cells(&self.udp), cells(&self.tcp_best_effort)].concat().iter().map(u64::to_string).collect()
    }
}

impl Source {
    pub(crate) fn count(&self) -> Count {
        Count { packets: self.packets, bytes: self.bytes }
    }
}

impl Stats {
    /// The denied packets, by source.
    pub(crate) fn by_source(&self) -> BTreeMap<IpAddr, Count> {
        self.sources.iter().map(|source| (source.source, source.count())).collect()
    }

    /// All packets for port 111.
    pub(crate) fn packets(&self) -> u64 {
        self.totals.allowed.packets + self.totals.by_reason.not_allowed.packets
    }

    /// What every such document promises.
    pub(super) fn assert_adds_up(&self) {
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

pub(crate) fn sum(counts: impl IntoIterator<Item = Count>) -> Count {
    counts.into_iter().fold(Count::default(), |mut sum, count| {
        sum += count;
        sum
    })
}
