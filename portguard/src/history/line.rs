//! One line of the history: the counters of one set at one moment. `docs/history.md` documents the format for users, and
//! must change together with this file.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use portguard_common::listed;
use portguard_common::rpc::{Request, Requests};
use portguard_common::totals::Count;
use portguard_common::transport::Protocol;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::guard::{ByReason, SetId, Snapshot, Source};

/// The most sources that a line lists. The others are in `other_sources`.
pub const HEAVIEST: usize = 256;

listed! {
    /// Why a line was written.
    pub enum Reason {
        /// `stats --reset` replaces the counters by new ones.
        Reset = "reset",
        /// `detach` removes the guard and its counters.
        Detach = "detach",
        /// A new program version has counters of its own.
        Upgrade = "upgrade",
        /// A loader was killed before it removed counters that it had replaced.
        Abandoned = "abandoned",
        /// The counters continue; the service writes them at intervals.
        Periodic = "periodic",
    }
}

/// The set of counters of a line, and its guard.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The name of the interface; `None` if the interface is gone and its name is unknown.
    pub interface: Option<&'a str>,
    /// The index of the interface.
    pub ifindex: u32,
    /// The inode of the network namespace of the interface.
    pub namespace: u64,
    /// The set of counters.
    pub set: SetId,
    /// Whether the guard drops; false in audit mode.
    pub enforcing: bool,
}

/// A line. All counts are absolute: since the set was at zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The version of the meaning of the fields.
    pub schema: Schema,
    /// When the line was written, in nanoseconds of Unix time.
    #[serde(with = "rfc3339")]
    pub written_at: u64,
    /// The reason; `None` if a later version wrote the line for a reason that this version does not know.
    #[serde(with = "reason")]
    pub reason: Option<Reason>,
    /// `/proc/sys/kernel/random/boot_id`; `None` if the writer could not read it.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// See [`Identity::namespace`].
    pub namespace: u64,
    /// See [`Identity::interface`].
    pub interface: Option<String>,
    /// See [`Identity::ifindex`].
    pub ifindex: u32,
    /// See [`Identity::set`].
    #[serde(with = "text")]
    pub set: SetId,
    /// When the set was at zero, in nanoseconds of Unix time, by the wall clock at the time of writing.
    #[serde(with = "rfc3339")]
    pub since: u64,
    /// When the counts were read, in nanoseconds of Unix time.
    #[serde(with = "rfc3339")]
    pub until: u64,
    /// See [`Identity::enforcing`].
    pub enforcing: bool,
    /// The sums.
    pub totals: Totals,
    /// The denied packets of `totals.by_reason` by kind of request.
    pub requests: RequestCounts,
    /// The sources with the most packets, in descending order.
    pub sources: Vec<SourceCount>,
    /// All other sources.
    pub other_sources: OtherSources,
    /// Denied packets of `totals.by_reason` that are counted for no source, because the source tables had no room.
    pub unattributed: Packets,
}

/// The version of the format, 1. A line of another version does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Schema;

impl Schema {
    const VERSION: u32 = 1;
}

impl From<Schema> for u32 {
    fn from(Schema: Schema) -> Self {
        Schema::VERSION
    }
}

impl TryFrom<u32> for Schema {
    type Error = &'static str;

    fn try_from(version: u32) -> Result<Self, Self::Error> {
        if version == Self::VERSION { Ok(Self) } else { Err("a schema that this version does not know") }
    }
}

/// A number of packets, and their bytes from the IP header on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl From<Count> for Packets {
    fn from(Count { packets, bytes }: Count) -> Self {
        Self { packets, bytes }
    }
}

/// Sums over all sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets from sources on the list.
    pub allowed: Packets,
    /// Packets that were dropped.
    pub dropped: Packets,
    /// Packets that passed in audit mode, and would have been dropped in enforcing mode.
    pub would_drop: Packets,
    /// `dropped` and `would_drop`, by reason.
    pub by_reason: ByReason<Packets>,
}

/// Packets by procedure (by [`Procedure::key`](portguard_common::rpc::Procedure::key)) for each protocol. Counts of zero are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Datagrams.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub udp: BTreeMap<String, u64>,
    /// Segments, by the call that begins where their data begin.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tcp_best_effort: BTreeMap<String, u64>,
}

/// A source that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// The address.
    pub source: IpAddr,
    /// Its packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its packets by kind of request.
    pub requests: RequestCounts,
    /// The time of the first packet, in nanoseconds of Unix time.
    #[serde(with = "rfc3339")]
    pub first_seen: u64,
    /// The time of the last packet, in nanoseconds of Unix time.
    #[serde(with = "rfc3339")]
    pub last_seen: u64,
}

/// Sources that a line does not list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSources {
    /// The number of these sources.
    pub sources: u64,
    /// Their packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Line {
    /// The line for a set of counters that was read at `snapshot.taken_at`. It lists at most `heaviest` sources (usually
    /// [`HEAVIEST`]). Times are cut off to microseconds, which is the precision of a line.
    pub fn new(
        snapshot: &Snapshot,
        identity: Identity<'_>,
        reason: Reason,
        written_at: u64,
        boot_id: Option<String>,
        heaviest: usize,
    ) -> Self {
        let mut sources: Vec<&Source> = snapshot.sources.iter().collect();
        let order =
            |source: &&Source| (Reverse(source.count.packets), Reverse(source.count.bytes), source.address);
        let listed = heaviest.min(sources.len());
        if 0 < listed && listed < sources.len() {
            // Of many thousand sources, only the listed ones need an order.
            sources.select_nth_unstable_by_key(listed, order);
        }
        let (listed, others) = sources.split_at_mut(listed);
        listed.sort_unstable_by_key(order);
        let mut rest = Count::default();
        for source in others.iter() {
            rest.add(source.count);
        }
        Self {
            schema: Schema,
            written_at: cut_off(written_at),
            reason: Some(reason),
            boot_id,
            namespace: identity.namespace,
            interface: identity.interface.map(str::to_owned),
            ifindex: identity.ifindex,
            set: identity.set,
            since: cut_off(snapshot.since),
            until: cut_off(snapshot.taken_at),
            enforcing: identity.enforcing,
            totals: Totals {
                allowed: snapshot.allowed.into(),
                dropped: snapshot.dropped().into(),
                would_drop: snapshot.would_drop.into(),
                by_reason: snapshot.by_reason().map(Packets::from),
            },
            requests: snapshot.requests.into(),
            sources: listed.iter().map(|source| SourceCount::from(*source)).collect(),
            other_sources: OtherSources {
                sources: others.len() as u64,
                packets: rest.packets,
                bytes: rest.bytes,
            },
            unattributed: snapshot.unattributed.into(),
        }
    }

    /// The line as it is in a file, with the newline.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|line| line + "\n")
    }

    /// Parses a line, with or without the newline. `None` if it is torn, has another schema, or is not a line.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The number of packets that the set has counted. While the set counts, this number never decreases; the clock may.
    pub fn counted(&self) -> u64 {
        let Totals { allowed, dropped: _, would_drop: _, by_reason } = &self.totals;
        let dropped = by_reason.each().map(|(_, count)| count.packets);
        dropped.fold(allowed.packets, u64::saturating_add)
    }
}

impl From<Requests> for RequestCounts {
    fn from(requests: Requests) -> Self {
        let mut counts = Self::default();
        for request in Request::all() {
            let count = requests[request.index()];
            if count > 0 {
                let protocol = match request.protocol() {
                    Protocol::Udp => &mut counts.udp,
                    Protocol::Tcp => &mut counts.tcp_best_effort,
                };
                protocol.insert(request.procedure().key().to_owned(), count);
            }
        }
        counts
    }
}

impl From<&Source> for SourceCount {
    fn from(source: &Source) -> Self {
        Self {
            source: source.address,
            packets: source.count.packets,
            bytes: source.count.bytes,
            requests: Requests::from(&source.asked).into(),
            first_seen: cut_off(source.first_seen),
            last_seen: cut_off(source.last_seen),
        }
    }
}

/// Cuts a time off to whole microseconds.
fn cut_off(nanoseconds: u64) -> u64 {
    nanoseconds - nanoseconds % 1_000
}

/// Serializes times in the format of RFC 3339.
mod rfc3339 {
    use jiff::Timestamp;

    use super::{Deserialize as _, Deserializer, Serializer};
    use crate::time;

    pub(super) fn serialize<S: Serializer>(unix: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time::microseconds(*unix))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        u64::try_from(time.as_nanosecond()).map_err(serde::de::Error::custom)
    }
}

/// Serializes values by their text (`Display` and `FromStr`).
mod text {
    use super::{Deserialize as _, Deserializer, FromStr, Serializer, fmt};

    pub(super) fn serialize<S: Serializer>(
        value: &impl fmt::Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Serializes reasons by their keys.
mod reason {
    use super::{Deserialize as _, Deserializer, Reason, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        reason.map(Reason::key).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Reason>, D::Error> {
        let key = Option::<String>::deserialize(deserializer)?;
        Ok(key.and_then(|key| Reason::from_key(&key)))
    }
}
