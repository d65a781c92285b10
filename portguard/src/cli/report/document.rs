//! The evidence that an abuse desk asks for.

use std::cmp::Reverse;

use portguard_common::rpc::Procedure;
use serde::Serialize;

use super::covered::Covered;
use crate::cli::stats::document::{COUNTED_AS, CountedAs, Packets, SourceRow};
use crate::family::Family;
use crate::guard::calls::{self, Calls};
use crate::guard::{Hook, PerDenial, Snapshot, Source};
use crate::rpcbind::amplification::{Answers, Range};
use crate::time;

/// The document of `report --json`. Fields may be added; no field is renamed or removed.
///
/// `answer_bytes` are always those of rpcbind's answers to the UDP requests, in bytes of UDP payload without any header:
/// of the answers that were prevented, or, as far as the guard was in audit mode, sent. They are a range, as versions and
/// arguments of calls are not counted; `null`: no rpcbind of this host answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// RFC 3339, as are all times; UTC.
    pub taken_at: String,
    /// The name of this host.
    pub host: String,
    /// What its own rpcbind answers; measured for this report.
    pub rpcbind: Rpcbind,
    /// The guards.
    pub interfaces: Vec<Interface>,
}

/// What the rpcbind of this host answers, over each family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rpcbind {
    /// To IPv4 sources.
    pub ipv4: Replies,
    /// To IPv6 sources.
    pub ipv6: Replies,
}

/// Answers over one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replies {
    /// Who was asked: address and port.
    pub server: String,
    /// Why there are no answers.
    pub problem: Option<String>,
    /// Their sizes; `null`: there are none.
    pub measured: Option<Vec<Reply>>,
    /// What was not asked for, but stated by RFC 1833 and RFC 5531; `null`: rpcbind does not answer.
    pub stated: Option<Vec<Stated>>,
}

/// An answer that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// As what the call is counted: a key of `calls`.
    pub procedure: &'static str,
    /// The name of the call.
    pub call: &'static str,
    /// The version of rpcbind's program.
    pub version: u32,
    /// The UDP payload of the call.
    pub request_bytes: u64,
    /// The UDP payload of the answer.
    pub reply_bytes: u64,
}

/// Answers whose size depends on the call, or that cannot be asked for without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stated {
    /// A key of `calls`.
    pub procedure: &'static str,
    /// The UDP payload of one answer.
    pub reply_bytes: Range,
}

/// What a guard has kept from rpcbind, or would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The name of its interface now.
    pub interface: String,
    /// Where it runs: `hook`, and `mode` if that is XDP.
    #[serde(flatten)]
    pub hook: Hook,
    /// Whether it drops now, or only counts.
    pub enforcing: bool,
    /// Since when it counts.
    pub since: String,
    /// The sums over all sources.
    pub totals: Totals,
    /// The same by procedure, in the order of `calls`.
    pub procedures: Vec<ProcedureRow>,
    /// The sources, biggest first. Those of UDP are probably forged: the victims.
    pub sources: Vec<Row>,
    /// The sources that `--top` has left out.
    pub not_shown: SourceSum,
    /// The sources that the list in force covers now, shown or not: clients of this host, in whose name somebody may have asked.
    pub listed: SourceSum,
    /// Packets whose sources had to make way for others.
    pub unattributed: Unattributed,
}

/// Sums over all sources, shown or not, remembered or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Dropped, for any reason.
    pub dropped: Packets,
    /// Let through in audit mode.
    pub would_drop: Packets,
    /// Of both, those that were denied for their source, by reason. This report is about these.
    #[serde(flatten)]
    pub denied: PerDenial<Packets>,
    /// What they asked for.
    pub calls: Calls,
    /// The answers.
    pub answer_bytes: Option<Range>,
}

impl Totals {
    /// How many packets the report is about.
    pub fn denied(&self) -> u64 {
        self.denied.each().map(|(_, count)| count.packets).sum()
    }
}

/// Requests for a procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcedureRow {
    /// A key of `calls`.
    pub procedure: &'static str,
    /// Datagrams.
    pub udp: u64,
    /// Segments.
    pub tcp_best_effort: u64,
    /// The answers.
    pub answer_bytes: Option<Range>,
    #[serde(skip)]
    pub(super) name: &'static str,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// As in `stats --json`.
    #[serde(flatten)]
    pub source: SourceRow,
    /// Whether the list in force covers it now.
    pub listed: bool,
    /// The answers.
    pub answer_bytes: Option<Range>,
}

/// The sums over several sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SourceSum {
    /// How many.
    pub sources: u64,
    /// Their packets, and the bytes of these.
    #[serde(flatten)]
    pub count: Packets,
    /// The answers.
    pub answer_bytes: Option<Range>,
}

/// Packets without a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unattributed {
    /// How many, and their bytes.
    #[serde(flatten)]
    pub count: Packets,
    /// The answers, over either family.
    pub answer_bytes: Option<Range>,
}

impl Document {
    /// A document of this version.
    pub fn new(taken_at: u64, host: String, answers: &Answers, interfaces: Vec<Interface>) -> Self {
        let [ipv4, ipv6] = Family::ALL.map(|family| Replies::new(answers, family));
        let taken_at = time::microseconds(taken_at);
        Self { schema: 1, taken_at, host, rpcbind: Rpcbind { ipv4, ipv6 }, interfaces }
    }
}

impl Replies {
    fn new(answers: &Answers, family: Family) -> Self {
        let sizes = answers.over(family);
        let measured = |sizes: &[crate::rpcbind::amplification::Size]| {
            let reply = |size: &crate::rpcbind::amplification::Size| Reply {
                procedure: size.question.procedure().key(),
                call: size.question.name(),
                version: size.question.version(),
                request_bytes: size.request,
                reply_bytes: size.reply,
            };
            sizes.iter().map(reply).collect()
        };
        let stated = || {
            let stated = |procedure| Some((procedure, family.stated(procedure)?));
            let row =
                |(procedure, reply_bytes): (Procedure, _)| Stated { procedure: procedure.key(), reply_bytes };
            Procedure::ALL.into_iter().filter_map(stated).map(row).collect()
        };
        Self {
            server: family.rpcbind().to_string(),
            problem: sizes.err().map(ToString::to_string),
            measured: sizes.ok().map(measured),
            stated: sizes.ok().map(|_| stated()),
        }
    }
}

impl Interface {
    /// What a guard has counted, and what `answers` make of it; with at most `top` sources. Its list in force covers the sources in
    /// `covered`.
    pub fn new(
        interface: String,
        hook: Hook,
        enforcing: bool,
        mut snapshot: Snapshot,
        covered: &Covered,
        answers: &Answers,
        top: Option<usize>,
    ) -> Self {
        let (dropped, would_drop) = (snapshot.dropped(), snapshot.would_drop);
        snapshot.sources.sort_unstable_by_key(|source| {
            (Reverse((source.count.packets, source.count.bytes)), source.address)
        });
        let calls = Calls::from(snapshot.requests);
        let replies = ReplyTotals::new(&snapshot.sources, &calls, answers);
        let (shown, rest) = snapshot.sources.split_at(top.unwrap_or(usize::MAX).min(snapshot.sources.len()));
        let listed = snapshot.sources.iter().filter(|source| covered.contains(source.address));
        let row = |source: &Source| Row {
            source: source.into(),
            listed: covered.contains(source.address),
            answer_bytes: answers_to(source, answers),
        };
        Self {
            interface,
            hook,
            enforcing,
            since: time::seconds(snapshot.since),
            totals: Totals {
                dropped: dropped.into(),
                would_drop: would_drop.into(),
                denied: PerDenial(snapshot.denied.map(Packets::from)),
                calls,
                answer_bytes: sum(replies.procedures.iter().map(|row| row.answer_bytes)),
            },
            procedures: replies.procedures,
            sources: shown.iter().map(row).collect(),
            not_shown: SourceSum::of(rest, answers),
            listed: SourceSum::of(listed, answers),
            unattributed: Unattributed {
                count: snapshot.unattributed.into(),
                answer_bytes: replies.unattributed,
            },
        }
    }
}

impl Interface {
    /// Which sums the packets of the sources are part of.
    pub(super) fn counted_as(&self) -> CountedAs {
        CountedAs::of(self.totals.dropped, self.totals.would_drop)
    }
}

impl SourceSum {
    fn of<'s>(sources: impl IntoIterator<Item = &'s Source>, answers: &Answers) -> Self {
        let none = answers.are_known().then(Range::default);
        let mut all = Self { sources: 0, count: Packets::default(), answer_bytes: none };
        for source in sources {
            all.sources += 1;
            all.count.packets += source.count.packets;
            all.count.bytes += source.count.bytes;
            all.answer_bytes = sum([all.answer_bytes, answers_to(source, answers)]);
        }
        all
    }
}

/// Sums of ranges, as long as there are any.
fn sum(ranges: impl IntoIterator<Item = Option<Range>>) -> Option<Range> {
    ranges.into_iter().sum()
}

fn answers_to(source: &Source, answers: &Answers) -> Option<Range> {
    let (family, calls) = (Family::of(source.address), Calls::from(&source.asked));
    sum(Procedure::ALL.map(|procedure| answers.bytes(Some(family), procedure, calls.udp.of(procedure))))
}

/// The replies by procedure, in bytes.
struct ReplyTotals {
    procedures: Vec<ProcedureRow>,
    unattributed: Option<Range>,
}

impl ReplyTotals {
    fn new(sources: &[Source], total: &Calls, answers: &Answers) -> Self {
        // By procedure and family: a source table may hold a million sources.
        let mut attributed = [[0_u64; Procedure::ALL.len()]; Family::ALL.len()];
        for source in sources {
            let (family, calls) = (Family::of(source.address), Calls::from(&source.asked));
            for (sum, procedure) in attributed[family as usize].iter_mut().zip(Procedure::ALL) {
                *sum += calls.udp.of(procedure);
            }
        }
        let mut unattributed = Vec::new();
        let row = |procedure: Procedure| {
            let counts = attributed.map(|counts| counts[procedure as usize]);
            let udp = total.udp.of(procedure);
            let rest = answers.bytes(None, procedure, udp.saturating_sub(counts.iter().sum()));
            unattributed.push(rest);
            let of_family = |(family, count)| answers.bytes(Some(family), procedure, count);
            ProcedureRow {
                procedure: procedure.key(),
                udp,
                tcp_best_effort: total.tcp_best_effort.of(procedure),
                answer_bytes: sum(Family::ALL.into_iter().zip(counts).map(of_family).chain([rest])),
                name: calls::name(procedure),
            }
        };
        let procedures = Procedure::ALL.into_iter().map(row).collect();
        Self { procedures, unattributed: sum(unattributed) }
    }
}

/// The sources as comma-separated values (RFC 4180), with a header line. Cells of answers that are not known are empty.
///
/// # Errors
/// None that depend on the document: it is written to memory.
pub fn csv(document: &Document) -> Result<String, csv::Error> {
    const COLUMNS: [&str; 12] = [
        "taken_at",
        "host",
        "interface",
        "enforcing",
        "since",
        "source",
        "packets",
        "bytes",
        "udp_packets",
        "tcp_packets",
        "first_seen",
        "last_seen",
    ];
    const ANSWERS: [&str; 2] = ["answer_bytes_at_least", "answer_bytes_at_most"];
    let mut writer = csv::Writer::from_writer(Vec::new());
    let columns = COLUMNS.map(str::to_owned).into_iter().chain(Calls::columns());
    writer.write_record(
        columns.chain(ANSWERS.map(str::to_owned)).chain([COUNTED_AS, "listed"].map(str::to_owned)),
    )?;
    for interface in &document.interfaces {
        for Row { source: row, listed, answer_bytes } in &interface.sources {
            let cells = [
                document.taken_at.clone(),
                document.host.clone(),
                interface.interface.clone(),
                interface.enforcing.to_string(),
                interface.since.clone(),
                row.source.clone(),
                row.packets.to_string(),
                row.bytes.to_string(),
                row.udp_packets.to_string(),
                row.tcp_packets.to_string(),
                row.first_seen.clone(),
                row.last_seen.clone(),
            ];
            let answers = super::text::cells(*answer_bytes, "");
            let counted_as = interface.counted_as().key().to_owned();
            writer.write_record(
                cells
                    .into_iter()
                    .chain(row.calls.cells())
                    .chain(answers)
                    .chain([counted_as, listed.to_string()]),
            )?;
        }
    }
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
