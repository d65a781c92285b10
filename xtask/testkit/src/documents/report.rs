//! `report --json`.

use std::net::IpAddr;
use std::ops::Add;

use serde::Deserialize;

use super::{Calls, or_empty};
use crate::net::{Count, sum};
use crate::portguard::Portguard;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    schema: u32,
    pub taken_at: String,
    pub host: String,
    pub rpcbind: Rpcbind,
    pub interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpcbind {
    pub ipv4: Replies,
    pub ipv6: Replies,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replies {
    pub server: String,
    pub problem: Option<String>,
    pub measured: Option<Vec<Reply>>,
    pub stated: Option<Vec<Stated>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub procedure: String,
    pub call: String,
    pub version: u32,
    pub request_bytes: u64,
    pub reply_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    pub procedure: String,
    pub reply_bytes: Range,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub at_least: u64,
    pub at_most: u64,
}

impl Range {
    pub fn contains(self, bytes: u64) -> bool {
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
pub struct Interface {
    pub interface: String,
    pub hook: String,
    /// Empty at tcx, which has none.
    #[serde(deserialize_with = "or_empty")]
    pub mode: String,
    pub enforcing: bool,
    pub since: String,
    pub totals: Totals,
    pub procedures: Vec<ProcedureRow>,
    pub sources: Vec<Source>,
    pub not_shown: SourceSum,
    pub listed: SourceSum,
    pub unattributed: Unattributed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    pub dropped: Count,
    pub would_drop: Count,
    pub not_allowed: Count,
    pub call_not_allowed: Count,
    pub wrong_interface: Count,
    pub expired: Count,
    pub rate_exceeded: Count,
    pub calls: Calls,
    pub answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcedureRow {
    pub procedure: String,
    pub udp: u64,
    pub tcp_best_effort: u64,
    pub answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
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
    pub listed: bool,
    pub answer_bytes: Option<Range>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSum {
    pub sources: u64,
    pub packets: u64,
    pub bytes: u64,
    pub answer_bytes: Option<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unattributed {
    packets: u64,
    bytes: u64,
    answer_bytes: Option<Range>,
}

impl Totals {
    /// All packets that the report is about.
    fn denied(&self) -> Count {
        let Self { not_allowed, call_not_allowed, wrong_interface, expired, rate_exceeded, .. } = *self;
        sum([not_allowed, call_not_allowed, wrong_interface, expired, rate_exceeded])
    }
}

impl Interface {
    pub fn source(&self, address: IpAddr) -> &Source {
        let found = self.sources.iter().find(|source| source.source == address);
        found.unwrap_or_else(|| panic!("{address} is not in {self:?}"))
    }

    pub fn procedure(&self, name: &str) -> &ProcedureRow {
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
        assert_eq!(sum(sources.chain(rest)), totals.denied(), "{self:?}");
        for source in &self.sources {
            assert_eq!(source.udp_packets + source.tcp_packets, source.packets, "{source:?}");
        }
        let by_procedure: u64 = self.procedures.iter().map(|row| row.udp + row.tcp_best_effort).sum();
        assert_eq!(by_procedure, totals.denied().packets, "{self:?}");
        let listed = || self.sources.iter().filter(|source| source.listed);
        if not_shown.sources == 0 {
            let expected = SourceSum {
                sources: listed().count() as u64,
                packets: listed().map(|source| source.packets).sum(),
                bytes: listed().map(|source| source.bytes).sum(),
                answer_bytes: total(
                    [totals.answer_bytes.map(|_| Range::default())]
                        .into_iter()
                        .chain(listed().map(|source| source.answer_bytes)),
                ),
            };
            assert_eq!(self.listed, expected, "{self:?}");
        }
    }
}

/// The sum, as long as all are known.
fn total(mut ranges: impl Iterator<Item = Option<Range>>) -> Option<Range> {
    ranges.try_fold(Range::default(), |sum, range| Some(sum + range?))
}

/// `report --json` with more arguments.
#[track_caller]
pub fn report(portguard: Portguard<'_>, arguments: &[&str]) -> Document {
    let json = portguard.ok(&[&["report", "--json"], arguments].concat());
    let document: Document = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(document.schema, 1);
    document.interfaces.iter().for_each(Interface::assert_adds_up);
    document
}

/// The same of the only guard.
#[track_caller]
pub fn report_of(portguard: Portguard<'_>) -> Interface {
    let [interface] = report(portguard, &[]).interfaces.try_into().expect("one guard");
    interface
}
