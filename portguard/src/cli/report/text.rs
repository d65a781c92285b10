//! The report for somebody who does not know portguard, nor perhaps rpcbind.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};
use portguard_common::reason::DropReason;
use portguard_common::rpc::Procedure;

use super::document::{Document, Interface, Replies, Reply, Rpcbind, SourceSum};
use crate::cli::stats::document::CountedAs;
use crate::family::Family;
use crate::guard::by_reason;
use crate::printable::counted;
use crate::rpcbind::amplification::Range;
use crate::term::table;

const UNKNOWN: &str = "unknown";

/// The document for the eye.
pub fn text(document: &Document) -> String {
    let parts = document.interfaces.iter().map(|interface| of_interface(document, interface));
    let mut parts: Vec<String> = parts.collect();
    if !parts.is_empty() {
        parts.push(replies(document));
    }
    parts.join("\n")
}

fn of_interface(document: &Document, interface: &Interface) -> String {
    let (name, host) = (&interface.interface, &document.host);
    let mut text = format!(
        "Port 111 (rpcbind) of host {host}, interface {name}\nfrom {} to {} (UTC)\n\n",
        interface.since, document.taken_at
    );
    // Writing to a string does not fail.
    if interface.totals.denied() == 0 {
        let _ = writeln!(text, "  No packets arrived from sources that may not use the port.");
        return text;
    }
    paragraph(&mut text, document, interface);
    listed(&mut text, interface);
    text += "\n";
    text += &procedures(interface);
    text += "\n";
    text += &sources(interface);
    text
}

fn paragraph(text: &mut String, document: &Document, interface: &Interface) {
    let counted_as = interface.counted_as();
    let totals = &interface.totals;
    let packets = totals.denied();
    let (udp, tcp) = (totals.calls.udp.sum(), totals.calls.tcp_best_effort.sum());
    let remembered = interface.sources.len() as u64 + interface.not_shown.sources;
    let more = if interface.unattributed.count.packets > 0 { "at least " } else { "" };
    // What was let through counts faulty packets as well, which have no source.
    let only_denied = totals.dropped.packets + totals.would_drop.packets == packets;
    let up_to = if only_denied { "" } else { "up to " };
    let let_through = totals.would_drop.packets.min(packets);
    let _ = writeln!(
        text,
        "  {} arrived from {more}{}{}: {udp} over UDP, {tcp} over TCP.",
        counted(packets, "packet"),
        counted(remembered, "source"),
        // Sources on the list may use the port, but not for these packets.
        match (concerns_listed(interface), packets) {
            (false, _) => " that may not use this port",
            (true, 1) => ", and the list did not permit it",
            (true, _) => ", and the list did not permit them",
        }
    );
    let _ = match counted_as {
        CountedAs::Dropped => {
            writeln!(
                text,
                "  portguard dropped all of them before rpcbind received them: rpcbind replied to none."
            )
        }
        CountedAs::WouldDrop => writeln!(
            text,
            "  portguard was in audit mode, and let all of them through: rpcbind received them, and may have replied."
        ),
        CountedAs::Either => writeln!(
            text,
            "  portguard was in audit mode for a part of that time, and let {up_to}{} through; it dropped\n  \
             the others before rpcbind received them. The tables count both together: they add up to {}.",
            counted(let_through, "packet"),
            counted(packets, "packet")
        ),
    };
    text.push_str(
        "  Sources of UDP packets are probably forged: a request with the address of another host makes rpcbind send its\n  \
         reply to that host. Treat the addresses below as the victims of such a reflection attack, not as its origin.\n",
    );
    let Some(Range { at_least, at_most }) = totals.answer_bytes else {
        let _ = writeln!(
            text,
            "  No rpcbind replies on {} or {} now, so it is unknown how large the replies {}.",
            document.rpcbind.ipv4.server,
            document.rpcbind.ipv6.server,
            if counted_as == CountedAs::WouldDrop { "were" } else { "would have been" }
        );
        return;
    };
    let _ = writeln!(
        text,
        "  The replies to the UDP requests, {}, are at least {at_least} and at most {at_most} bytes\n  \
         of UDP payload, if rpcbind replies to each of them as it replies to well-formed calls now. Replies over TCP do not go to\n  \
         forged sources, and are not counted.",
        what_became(counted_as)
    );
}

/// What became of replies.
fn what_became(counted_as: CountedAs) -> &'static str {
    match counted_as {
        CountedAs::Dropped => "which were prevented",
        CountedAs::WouldDrop => "which were not prevented but sent",
        CountedAs::Either => "some prevented and some sent",
    }
}

/// Whether packets came in the name of sources that are on the list, or were on it at that time.
fn concerns_listed(interface: &Interface) -> bool {
    let mut denied = interface.totals.denied.of_listed();
    interface.listed.sources > 0 || denied.any(|(_, count)| count.packets > 0)
}

/// What came in the name of this host's own clients.
fn listed(text: &mut String, interface: &Interface) {
    let SourceSum { sources, count, answer_bytes } = interface.listed;
    let is_one = sources == 1;
    if sources > 0 {
        let _ = writeln!(
            text,
            "  {}{} of the packets came in the name of {} that {} on the list now.",
            // Those of sources that are no longer remembered may be among them.
            if interface.unattributed.count.packets > 0 { "At least " } else { "" },
            count.packets,
            counted(sources, "source"),
            if is_one { "is" } else { "are" }
        );
    }
    if let Some(Range { at_least, at_most: at_most @ 1.. }) = answer_bytes {
        let (their, client) = if is_one { ("its", "this client") } else { ("their", "these clients") };
        let received = match interface.counted_as() {
            CountedAs::Dropped => "would have received",
            CountedAs::WouldDrop => "received",
            CountedAs::Either => "received, or would have received,",
        };
        let _ = writeln!(
            text,
            "  The replies to {their} UDP requests, {}, are at least {at_least} and at most {at_most} bytes:\n  \
             {client} of this host {received} them.",
            what_became(interface.counted_as())
        );
    }
    let denied = interface.totals.denied.of_listed().filter(|(_, count)| count.packets > 0);
    let denied: Vec<_> = denied.map(|(denial, count)| (denial, count.packets)).collect();
    if !denied.is_empty() {
        let of_each = denied
            .iter()
            .map(|(denial, packets)| format!("{packets} {}", by_reason::name(DropReason::Denied(*denial))));
        let packets = denied.iter().map(|(_, packets)| packets).sum();
        let (sources, they, them) =
            if packets == 1 { ("source", "it", "it") } else { ("sources", "they", "them") };
        let _ = writeln!(
            text,
            "  An entry of the list covered the {sources} of {} when {they} arrived,\n  \
             and did not permit {them}: {}.",
            counted(packets, "packet"),
            of_each.collect::<Vec<_>>().join(", ")
        );
    }
}

/// A range as two cells.
pub(super) fn cells(range: Option<Range>, unknown: &str) -> [String; 2] {
    range.map_or_else(
        || [unknown.to_owned(), unknown.to_owned()],
        |Range { at_least, at_most }| [at_least.to_string(), at_most.to_string()],
    )
}

/// A table with numbers in those columns.
fn with_numbers<'h>(header: impl IntoIterator<Item = &'h str>, numbers: std::ops::Range<usize>) -> Table {
    let mut table = table::new(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        if numbers.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn procedures(interface: &Interface) -> String {
    let header = ["requested", "UDP", "TCP, best effort", "reply bytes, at least", "at most"];
    let mut table = with_numbers(header, 1..5);
    for row in &interface.procedures {
        if row.udp > 0 || row.tcp_best_effort > 0 {
            let [least, most] = cells(row.answer_bytes, UNKNOWN);
            table.add_row([
                row.name.to_owned(),
                row.udp.to_string(),
                row.tcp_best_effort.to_string(),
                least,
                most,
            ]);
        }
    }
    let (udp, tcp) = (&interface.totals.calls.udp, &interface.totals.calls.tcp_best_effort);
    let [least, most] = cells(interface.totals.answer_bytes, UNKNOWN);
    table.add_row(["in total".to_owned(), udp.sum().to_string(), tcp.sum().to_string(), least, most]);
    table::indented(&table)
}

fn sources(interface: &Interface) -> String {
    const HEADER: [&str; 9] = [
        "source",
        "UDP",
        "TCP",
        "reply bytes, at least",
        "at most",
        "mostly",
        "first seen",
        "last seen",
        "on the list",
    ];
    let shows_listed = interface.listed.sources > 0;
    let columns = if shows_listed { HEADER.len() } else { HEADER.len() - 1 };
    let mut table = with_numbers(HEADER.into_iter().take(columns), 1..5);
    for row in &interface.sources {
        let [least, most] = cells(row.answer_bytes, UNKNOWN);
        let source = &row.source;
        let cells = [
            source.source.clone(),
            source.udp_packets.to_string(),
            source.tcp_packets.to_string(),
            least,
            most,
            source.calls.mostly().to_owned(),
            source.first_seen.clone(),
            source.last_seen.clone(),
        ];
        let listed = shows_listed.then(|| if row.listed { "yes" } else { "no" }.to_owned());
        table.add_row(cells.into_iter().chain(listed));
    }
    let mut text = if interface.sources.is_empty() { String::new() } else { table::indented(&table) };
    let mut line = |of_whom: &str, packets: u64, range: Option<Range>| {
        let _ = write!(text, "  and {} of {of_whom}", counted(packets, "packet"));
        let _ = match range {
            Some(Range { at_least, at_most }) => {
                writeln!(text, ": reply bytes at least {at_least}, at most {at_most}")
            }
            None => writeln!(text),
        };
    };
    let not_shown = &interface.not_shown;
    if not_shown.sources > 0 {
        let of_whom = format!("{} (--top N)", counted(not_shown.sources, "more source"));
        line(&of_whom, not_shown.count.packets, not_shown.answer_bytes);
    }
    let unattributed = &interface.unattributed;
    if unattributed.count.packets > 0 {
        line("sources that are no longer remembered", unattributed.count.packets, unattributed.answer_bytes);
    }
    text
}

/// What rpcbind answers.
fn replies(document: &Document) -> String {
    let Rpcbind { ipv4, ipv6 } = &document.rpcbind;
    let families = [(Family::V4.name(), ipv4), (Family::V6.name(), ipv6)];
    let mut text = String::new();
    let known: Vec<&Vec<Reply>> =
        families.iter().filter_map(|(_, replies)| replies.measured.as_ref()).collect();
    if let Some(first) = known.first() {
        text += "Replies of this host's rpcbind, measured for this report, in bytes of UDP payload\n\n";
        let header = ["call", "version", "request", "reply, IPv4", "reply, IPv6", "amplification"];
        let mut table = with_numbers(header, 1..6);
        for (index, reply) in first.iter().enumerate() {
            let of = |replies: &Replies| {
                let reply = replies.measured.as_ref().and_then(|measured| measured.get(index));
                reply.map_or_else(|| "-".to_owned(), |reply| reply.reply_bytes.to_string())
            };
            let factors = known.iter().filter_map(|measured| measured.get(index)).map(amplification);
            table.add_row([
                reply.call.to_owned(),
                reply.version.to_string(),
                reply.request_bytes.to_string(),
                of(families[0].1),
                of(families[1].1),
                format!("{:.1}", factors.fold(0.0, f64::max)),
            ]);
        }
        text += &table::indented(&table);
        text += "\n";
    }
    for (family, Replies { server, problem, .. }) in families {
        if let Some(problem) = problem {
            let _ = writeln!(text, "  {server}: {problem}, so no replies to {family} sources are counted.");
        }
    }
    if !known.is_empty() {
        text += STATED;
        for (family, replies) in families {
            let Some(stated) = &replies.stated else { continue };
            let size = |procedure: Procedure| {
                let size = stated
                    .iter()
                    .find(|stated| stated.procedure == procedure.key())
                    .map(|stated| stated.reply_bytes);
                let Range { at_least, at_most } = size.unwrap_or_default();
                if at_least == at_most { at_most.to_string() } else { format!("{at_least} to {at_most}") }
            };
            let _ = writeln!(
                text,
                "  {family}: GETADDR, GETVERSADDR, TADDR2UADDR {} (by the address), UADDR2TADDR {}, GETADDRLIST {}, GETTIME {},\n    \
                 SET and UNSET {}, CALLIT {}, other RPC {}, other program {}, not RPC 0.",
                size(Procedure::GetAddress),
                size(Procedure::ToTransport),
                size(Procedure::GetAddressList),
                size(Procedure::GetTime),
                size(Procedure::Set),
                size(Procedure::CallIt),
                size(Procedure::OtherRpc),
                size(Procedure::OtherProgram)
            );
        }
    }
    text
}

const STATED: &str = "  Not measured, because the call would change or call something, or because the size depends on the call;\n  \
    by RFC 1833 and RFC 5531. Without -r, rpcbind does not reply to CALLIT, and replies to INDIRECT with an error:\n";

/// Bytes of the answer for one byte of the request.
fn amplification(reply: &Reply) -> f64 {
    reply.reply_bytes as f64 / reply.request_bytes as f64
}
