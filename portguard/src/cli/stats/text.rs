//! What was allowed and dropped: for the eye.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};
use portguard_common::reason::DropReason;
use portguard_common::rpc::Procedure;

use super::document::{CountedAs, Document, Interface, NotShown, Packets};
use crate::guard::by_reason;
use crate::guard::calls::{self, Calls};
use crate::ops::state;
use crate::printable::counted;
use crate::term::table;

/// The document for the eye.
pub fn text(document: &Document) -> String {
    document.interfaces.iter().map(interface_text).collect::<Vec<_>>().join("\n")
}

fn interface_text(interface: &Interface) -> String {
    let Interface { totals, hook, since, .. } = interface;
    let state = state(interface.enforcing);
    let mut text = format!("{}: {state}, {hook}, counting since {since}\n", interface.interface);

    let mut table = with_numbers(["", "packets", "bytes"]);
    let mut row = |name: &str, Packets { packets, bytes }: Packets| {
        table.add_row([name.to_owned(), packets.to_string(), bytes.to_string()]);
    };
    row("allowed", totals.allowed);
    row("dropped", totals.dropped);
    if totals.would_drop.packets > 0 || !interface.enforcing {
        row("would drop", totals.would_drop);
    }
    if interface.counted_as() == CountedAs::Either {
        row("together", totals.refused());
    }
    for (reason, count) in totals.by_reason.each() {
        if count.packets > 0 {
            row(&format!("  {}", by_reason::name(reason)), count);
        }
    }
    text += &table::indented(&table);
    if let Some(calls) = calls(&totals.calls) {
        text += "\n";
        text += &calls;
    }

    if !interface.sources.is_empty() {
        let mut table = with_numbers([
            "denied source",
            "packets",
            "bytes",
            "UDP",
            "TCP",
            "mostly",
            "first seen",
            "last seen",
        ]);
        for source in &interface.sources {
            table.add_row([
                source.source.clone(),
                source.packets.to_string(),
                source.bytes.to_string(),
                source.udp_packets.to_string(),
                source.tcp_packets.to_string(),
                source.calls.mostly().to_owned(),
                source.first_seen.clone(),
                source.last_seen.clone(),
            ]);
        }
        text += "\n";
        text += &table::indented(&table);
    }
    let NotShown { sources, packets, bytes } = interface.not_shown;
    // Writing to a string does not fail.
    if sources > 0 {
        let _ = writeln!(
            text,
            "  and {} with {}, {} (--top N)",
            counted(sources, "more source"),
            counted(packets, "packet"),
            counted(bytes, "byte")
        );
    }
    let Packets { packets, bytes } = interface.unattributed;
    if packets > 0 {
        let _ = writeln!(
            text,
            "  and {}, {} of sources that are no longer remembered",
            counted(packets, "packet"),
            counted(bytes, "byte")
        );
    }
    if !interface.sources.is_empty() {
        let denied = totals.by_reason.each().filter(|(reason, _)| matches!(reason, DropReason::Denied(_)));
        let denied: Vec<(DropReason, Packets)> = denied.filter(|(_, count)| count.packets > 0).collect();
        let reasons: Vec<String> =
            denied.iter().map(|(reason, _)| format!("\"{}\"", by_reason::name(*reason))).collect();
        let Packets { packets, bytes } = denied.into_iter().map(|(_, count)| count).sum();
        let _ = writeln!(
            text,
            "  in total {}, {}: {} above, {}",
            counted(packets, "packet"),
            counted(bytes, "byte"),
            enumerated(&reasons),
            match interface.counted_as() {
                CountedAs::Dropped => "all dropped",
                CountedAs::WouldDrop => "all let through in audit mode",
                CountedAs::Either => "a part dropped, a part let through in audit mode",
            }
        );
    }
    text
}

/// `a`, `a and b`, or `a, b and c`.
fn enumerated(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// A table whose second to fifth columns are numbers.
fn with_numbers<const N: usize>(header: [&str; N]) -> Table {
    let mut table = table::new(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        if (1..5).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What was asked for, as a table; nothing if nothing was.
pub(in crate::cli) fn calls(calls: &Calls) -> Option<String> {
    let mut table = table::new(["requested", "UDP", "TCP, best effort"]);
    for (index, column) in table.column_iter_mut().enumerate() {
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for procedure in Procedure::ALL {
        let (udp, tcp) = (calls.udp.of(procedure), calls.tcp_best_effort.of(procedure));
        if udp > 0 || tcp > 0 {
            table.add_row([calls::name(procedure).to_owned(), udp.to_string(), tcp.to_string()]);
        }
    }
    (table.row_count() > 0).then(|| table::indented(&table))
}
