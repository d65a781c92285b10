//! What was allowed and dropped.

use std::cmp::Reverse;

use portguard_common::listed;
use portguard_common::totals::Count;
use serde::Serialize;

use super::SortKey;
use crate::guard::calls::Calls;
use crate::guard::{ByReason, Hook, Snapshot, Source};
use crate::time;

/// The document of `stats --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// RFC 3339.
    pub taken_at: String,
    /// The guards.
    pub interfaces: Vec<Interface>,
}

/// The counters of a guard. The sum over `sources`, `not_shown` and `unattributed` is that of
/// the reasons in `totals.by_reason` for which a source is denied: all but those of faulty packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The name of its interface now.
    pub interface: String,
    /// Where it runs: `hook`, and `mode` if that is XDP.
    #[serde(flatten)]
    pub hook: Hook,
    /// Whether it drops, or only counts.
    pub enforcing: bool,
    /// Since when it counts; RFC 3339.
    pub since: String,
    /// The sums.
    pub totals: Totals,
    /// The denied sources, in the order that was asked for.
    pub sources: Vec<SourceRow>,
    /// The denied sources that `--top` has left out.
    pub not_shown: NotShown,
    /// Denied packets whose sources had to make way for others.
    pub unattributed: Packets,
}

/// Sums over all sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// For port 111, from sources on the list.
    pub allowed: Packets,
    /// Dropped.
    pub dropped: Packets,
    /// Let through in audit mode, but counted by reason.
    pub would_drop: Packets,
    /// `dropped` and `would_drop`, by their reason.
    pub by_reason: ByReason<Packets>,
    /// What the denied packets of `by_reason` asked for: those that are counted by source.
    pub calls: Calls,
    /// Denied packets of `by_reason` for which the log of drops had no room (`run --log-drops`).
    pub not_logged: u64,
}

listed! {
    /// Which of the sums of an interface the packets of its sources are part of. The source table does not tell modes
    /// apart.
    pub enum CountedAs {
        /// `dropped`.
        Dropped = "dropped",
        /// `would_drop`: the guard was in audit mode.
        WouldDrop = "would_drop",
        /// Either of them: the guard was in audit mode for a part of the time.
        Either = "dropped_or_would_drop",
    }
}

impl CountedAs {
    /// For an interface with these sums.
    pub fn of(dropped: Packets, would_drop: Packets) -> Self {
        match (dropped.packets, would_drop.packets) {
            (_, 0) => Self::Dropped,
            (0, _) => Self::WouldDrop,
            _ => Self::Either,
        }
    }
}

impl Totals {
    /// `dropped` and `would_drop` together.
    pub(super) fn refused(&self) -> Packets {
        let Packets { packets, bytes } = self.dropped;
        Packets { packets: packets + self.would_drop.packets, bytes: bytes + self.would_drop.bytes }
    }
}

/// A number of packets, and their bytes from the IP header on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl std::iter::Sum for Packets {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            packets: sum.packets + count.packets,
            bytes: sum.bytes + count.bytes,
        })
    }
}

impl From<Count> for Packets {
    fn from(Count { packets, bytes }: Count) -> Self {
        Self { packets, bytes }
    }
}

/// A denied source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceRow {
    /// Its address.
    pub source: String,
    /// Its packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many were UDP.
    pub udp_packets: u64,
    /// How many were TCP.
    pub tcp_packets: u64,
    /// RFC 3339.
    pub first_seen: String,
    /// RFC 3339.
    pub last_seen: String,
    /// What they asked for.
    pub calls: Calls,
}

/// Sources that are not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NotShown {
    /// How many.
    pub sources: u64,
    /// Their packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Document {
    /// A document of this version.
    pub fn new(taken_at: u64, interfaces: Vec<Interface>) -> Self {
        Self { schema: 1, taken_at: time::microseconds(taken_at), interfaces }
    }
}

impl Interface {
    /// The counters of a guard, with at most `top` sources.
    pub fn new(
        interface: String,
        hook: Hook,
        enforcing: bool,
        mut snapshot: Snapshot,
        sort: SortKey,
        top: Option<usize>,
    ) -> Self {
        let (dropped, would_drop) = (snapshot.dropped(), snapshot.would_drop);
        let by_reason = snapshot.by_reason().map(Packets::from);
        let sources = &mut snapshot.sources;
        let order = |source: &Source| (Reverse(rank(source, sort)), source.address);
        let shown = top.unwrap_or(usize::MAX).min(sources.len());
        if 0 < shown && shown < sources.len() {
            // Of many thousand sources, only those that are shown need to be in order.
            sources.select_nth_unstable_by_key(shown, order);
        }
        sources[..shown].sort_unstable_by_key(order);
        let mut not_shown = NotShown::default();
        for source in sources.drain(shown..) {
            not_shown.sources += 1;
            not_shown.packets += source.count.packets;
            not_shown.bytes += source.count.bytes;
        }
        Self {
            interface,
            hook,
            enforcing,
            since: time::seconds(snapshot.since),
            totals: Totals {
                allowed: snapshot.allowed.into(),
                dropped: dropped.into(),
                would_drop: would_drop.into(),
                by_reason,
                calls: snapshot.requests.into(),
                not_logged: snapshot.not_logged,
            },
            sources: sources.iter().map(SourceRow::from).collect(),
            not_shown,
            unattributed: snapshot.unattributed.into(),
        }
    }
}

impl Interface {
    /// Which sums the packets of the sources are part of.
    pub(super) fn counted_as(&self) -> CountedAs {
        CountedAs::of(self.totals.dropped, self.totals.would_drop)
    }
}

fn rank(source: &Source, sort: SortKey) -> (u64, u64) {
    let Count { packets, bytes } = source.count;
    match sort {
        SortKey::Packets => (packets, bytes),
        SortKey::Bytes => (bytes, packets),
        SortKey::Recent => (source.last_seen, packets),
    }
}

impl From<&Source> for SourceRow {
    fn from(source: &Source) -> Self {
        Self {
            source: source.address.to_string(),
            packets: source.count.packets,
            bytes: source.count.bytes,
            udp_packets: source.count.packets.saturating_sub(source.tcp_packets()),
            tcp_packets: source.tcp_packets(),
            first_seen: time::seconds(source.first_seen),
            last_seen: time::seconds(source.last_seen),
            calls: (&source.asked).into(),
        }
    }
}

/// The column of [`CountedAs`].
pub(in crate::cli) const COUNTED_AS: &str = "counted_as";

/// The denied sources as comma-separated values (RFC 4180), with a header line.
pub fn csv(document: &Document) -> Result<String, csv::Error> {
    const COLUMNS: [&str; 8] =
        ["interface", "source", "packets", "bytes", "udp_packets", "tcp_packets", "first_seen", "last_seen"];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(
        COLUMNS.map(str::to_owned).into_iter().chain(Calls::columns()).chain([COUNTED_AS.to_owned()]),
    )?;
    for interface in &document.interfaces {
        for source in &interface.sources {
            let SourceRow { source, packets, bytes, udp_packets, tcp_packets, first_seen, last_seen, calls } =
                source;
            let numbers = [packets, bytes, udp_packets, tcp_packets].map(u64::to_string);
            let fields =
                [&interface.interface, source].into_iter().chain(&numbers).chain([first_seen, last_seen]);
            let counted_as = interface.counted_as().key().to_owned();
            writer.write_record(fields.cloned().chain(calls.cells()).chain([counted_as]))?;
        }
    }
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
