//! `report --json`, read by somebody who knows nothing of the code that writes it.

use std::net::IpAddr;
use std::ops::Add;

use portguard_testkit::net::Count;
use serde::Deserialize;

use crate::support::{Calls, Portguard, sum};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    schema: u32,
    pub(super) taken_at: String,
    pub(super) host: String,
    pub(super) rpcbind: Rpcbind,
    pub(super) interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rpcbind {
    pub(super) ipv4: Replies,
    pub(super) ipv6: Replies,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replies {
    pub(super) server: String,
    pub(super) problem: Option<String>,
    pub(super) measured: Option<Vec<Reply>>,
    pub(super) stated: Option<Vec<Stated>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    pub(super) procedure: String,
    pub(super) call: String,
    pub(super) version: u32,
    pub(super) request_bytes: u64,
    pub(super) reply_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stated {
    pub(super) procedure: String,
    pub(super) reply_bytes: Range,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) at_least: u64,
    pub(super) at_most: u64,
}

impl Range {
    pub(super) fn contains(self, bytes: u64) -> bool {
        (self.at_least..=self.at_most).contains(&bytes)
    }
}

impl Add for Range {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { at_least: self.at_least + other.at_least, at_most: self.at_most + other.at_most }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) interface: String,
    pub(super) mode: String,
    pub(super) enforcing: bool,
    pub(super) since: String,
    pub(super) totals: Totals,
    pub(super) procedures: Vec<ProcedureRow>,
    pub(super) sources: Vec<Source>,
    pub(super) not_shown: NotShown,
    pub(super) unattributed: Unattributed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Totals {
    pub(super) dropped: Count,
    pub(super) would_drop: Count,
    pub(super) not_allowed: Count,
    pub(super) calls: Calls,
    pub(super) answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProcedureRow {
    pub(super) procedure: String,
    pub(super) udp: u64,
    pub(super) tcp_best_effort: u64,
    pub(super) answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) source: IpAddr,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) udp_packets: u64,
    pub(super) tcp_packets: u64,
    pub(super) first_seen: String,
    pub(super) last_seen: String,
    pub(super) calls: Calls,
    pub(super) answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotShown {
    pub(super) sources: u64,
    packets: u64,
    bytes: u64,
    answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unattributed {
    packets: u64,
    bytes: u64,
    answer_bytes: Option<Range>,
}

impl Interface {
    pub(super) fn source(&self, address: IpAddr) -> &Source {
        let found = self.sources.iter().find(|source| source.source == address);
        found.unwrap_or_else(|| panic!("{address} is not in {self:?}"))
    }

    pub(super) fn procedure(&self, name: &str) -> &ProcedureRow {
        let found = self.procedures.iter().find(|row| row.procedure == name);
        found.unwrap_or_else(|| panic!("{name} is not in {self:?}"))
    }

    /// What every report promises, when nothing comes in meanwhile.
    fn assert_adds_up(&self) {
        let Self { totals, not_shown, unattributed, .. } = self;
        let rest = [not_shown.answer_bytes, unattributed.answer_bytes];
        let by_source = total(self.sources.iter().map(|source| source.answer_bytes).chain(rest));
        let by_procedure = total(self.procedures.iter().map(|row| row.answer_bytes));
        assert_eq!((by_source, by_procedure), (totals.answer_bytes, totals.answer_bytes), "{self:?}");
        let sources = self
            .sources
            .iter()
            .map(|Source { packets, bytes, .. }| Count { packets: *packets, bytes: *bytes });
        let rest = [(not_shown.packets, not_shown.bytes), (unattributed.packets, unattributed.bytes)]
            .map(|(packets, bytes)| Count { packets, bytes });
        assert_eq!(sum(sources.chain(rest)), totals.not_allowed, "{self:?}");
        for source in &self.sources {
            assert_eq!(source.udp_packets + source.tcp_packets, source.packets, "{source:?}");
        }
        let by_procedure: u64 = self.procedures.iter().map(|row| row.udp + row.tcp_best_effort).sum();
        assert_eq!(by_procedure, totals.not_allowed.packets, "{self:?}");
    }
}

/// The sum, as long as all are known.
fn total(mut ranges: impl Iterator<Item = Option<Range>>) -> Option<Range> {
    ranges.try_fold(Range::default(), |sum, range| Some(sum + range?))
}

/// `report --json` with more arguments.
#[track_caller]
pub(super) fn report(portguard: Portguard<'_>, arguments: &[&str]) -> Document {
    let json = portguard.ok(&[&["report", "--json"], arguments].concat());
    let document: Document = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(document.schema, 1);
    document.interfaces.iter().for_each(Interface::assert_adds_up);
    document
}

/// The same of the only guard.
#[track_caller]
pub(super) fn report_of(portguard: Portguard<'_>) -> Interface {
    let [interface] = report(portguard, &[]).interfaces.try_into().expect("one guard");
    interface
}
