//! A probe for the eye.

use std::fmt::Write as _;

use comfy_table::CellAlignment;

use super::document::{Address, Document, Reply, Service, Transport, Worst};
use crate::printable::printable;
use crate::probe::verdict::Verdict;
use crate::term::table;

/// How much is shown of a text that a server has written, in characters.
const MAX_TEXT: usize = 80;
/// How many services are shown of a host; hosts have fewer.
const MAX_SERVICES: usize = 200;
const NONE: &str = "-";

const OWN: &str = "\
These are this host's own addresses: the calls went over the loopback interface, where no guard sees them.
To see what other hosts see, run `portguard probe` on another host.
";
const MAY_BE_LISTED: &str = "\
This host may be on the allowlist of the host that it asked: then others see less. On that host, `portguard explain ADDRESS`
tells, with the address that this host asks from; or run `portguard probe` on a host that is not on the list.
";
const SOME_OWN: &str = "\
Some of these are this host's own addresses: calls to them went over the loopback interface, where no guard sees them.
To see what other hosts see, run `portguard probe` on another host.
";

/// The document for the eye.
pub fn text(document: &Document) -> String {
    let mut parts =
        vec![format!("Port 111 (rpcbind) of {} at {} (UTC)\n", document.shown_host(), document.taken_at)];
    parts.push(verdicts(&document.addresses));
    let answering = document.addresses.iter().filter(|address| has_replies(address));
    for (addresses, first) in groups(answering.clone(), |address| (&address.udp, &address.tcp)) {
        parts.push(answers(&addresses, first));
    }
    let listing = answering.filter(|address| !address.services.is_empty());
    for (addresses, first) in groups(listing, |address| &address.services) {
        parts.push(services(&addresses, &first.services));
    }
    match document.addresses.iter().filter(|address| address.own).count() {
        0 => {}
        own if own == document.addresses.len() => parts.push(OWN.to_owned()),
        _ => parts.push(SOME_OWN.to_owned()),
    }
    let is_exposed =
        |address: &Address| !address.own && matches!(address.verdict, Verdict::Reflector | Verdict::TcpOnly);
    if document.addresses.iter().any(is_exposed) {
        parts.push(MAY_BE_LISTED.to_owned());
    }
    parts.join("\n")
}

/// Addresses of which something is the same, in their order, with the first of each group.
fn groups<'a, K: PartialEq>(
    addresses: impl Iterator<Item = &'a Address>,
    key: impl Fn(&'a Address) -> K,
) -> Vec<(String, &'a Address)> {
    let mut groups: Vec<(String, &Address)> = Vec::new();
    for address in addresses {
        match groups.iter_mut().find(|(_, first)| key(first) == key(address)) {
            Some((names, _)) => {
                names.push_str(", ");
                names.push_str(&address.address);
            }
            None => groups.push((address.address.clone(), address)),
        }
    }
    groups
}

fn has_replies(address: &Address) -> bool {
    [&address.udp, &address.tcp].iter().any(|transport| transport.state == "answers")
}

/// A line for each address; and what is odd.
fn verdicts(addresses: &[Address]) -> String {
    let mut table = table::new(["address", "over UDP", "over TCP", "verdict"]);
    for address in addresses {
        table.add_row([&*address.address, address.udp.state, address.tcp.state, &words(address)]);
    }
    let mut text = table::indented(&table);
    for address in addresses {
        for (name, Transport { state, problem, .. }) in [("UDP", &address.udp), ("TCP", &address.tcp)] {
            // What the table says in one word needs no more of them.
            if let Some(problem) =
                problem.as_ref().filter(|_| !matches!(*state, "silent" | "refused" | "rejected"))
            {
                // Writing to a string does not fail.
                let _ = writeln!(text, "  {} over {name}: {}", address.address, shown(problem));
            }
        }
        let mut from: Vec<&str> =
            address.udp.replies.iter().filter_map(|reply| reply.from.as_deref()).collect();
        from.sort_unstable();
        from.dedup();
        if !from.is_empty() {
            let _ =
                writeln!(text, "  {}: its replies over UDP come from {}", address.address, from.join(", "));
        }
    }
    text
}

/// A verdict in words.
fn words(address: &Address) -> String {
    match (address.verdict, &address.amplification) {
        (Verdict::Reflector, worst) => {
            // Whether others get there is not seen from here.
            let what = if address.own { "a reflector if nothing guards it" } else { "exposed reflector" };
            let how = worst.as_ref().map_or_else(String::new, |worst| {
                let Worst { call, version, factor } = worst;
                format!(": sends up to {factor:.1} times what it receives ({call} of version {version})")
            });
            what.to_owned() + &how
        }
        (Verdict::TcpOnly, _) => {
            "replies over TCP only: not a reflector, but it lists the registered services".to_owned()
        }
        (Verdict::Unclear, _) => "a service is there, but does not reply as rpcbind does".to_owned(),
        (Verdict::Silent, _) if address.udp.state == address.tcp.state => {
            "silent: filtered, or no host is there".to_owned()
        }
        (Verdict::Silent, _) => "no reply: filtered, or no process listens".to_owned(),
        (Verdict::Refused, _) => "refused: no process listens".to_owned(),
        (Verdict::Rejected, _) => "rejected by a firewall".to_owned(),
        (Verdict::Unreachable, _) => "unreachable from here".to_owned(),
    }
}

/// What each call brings.
fn answers(addresses: &str, address: &Address) -> String {
    let mut table = table::new(["call", "version", "request", "reply, UDP", "amplification", "reply, TCP"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (udp, tcp) in address.udp.replies.iter().zip(&address.tcp.replies) {
        let Some(request) = udp.request_bytes.or(tcp.request_bytes) else { continue };
        let bytes =
            |reply: &Reply| reply.reply_bytes.map_or_else(|| NONE.to_owned(), |bytes| bytes.to_string());
        table.add_row([
            udp.call.to_owned(),
            udp.version.to_string(),
            request.to_string(),
            bytes(udp),
            udp.amplification.map_or_else(|| NONE.to_owned(), |factor| format!("{factor:.1}")),
            bytes(tcp),
        ]);
    }
    let mut text = format!(
        "Replies of {addresses}, in bytes (UDP payload, or a record of TCP)\n\n{}",
        table::indented(&table)
    );
    for (name, transport) in [("UDP", &address.udp), ("TCP", &address.tcp)] {
        text += &problems(name, transport);
    }
    text
}

/// What is wrong with single replies, where there are any. The same is said once, with the versions behind each call.
fn problems(protocol: &str, transport: &Transport) -> String {
    /// The name of a call, and its versions.
    type Calls<'a> = Vec<(&'a str, Vec<String>)>;
    let mut problems: Vec<(&str, Calls<'_>)> = Vec::new();
    let replies = transport.replies.iter().filter(|_| transport.problem.is_none());
    for reply in replies {
        let Some(problem) = &reply.problem else { continue };
        let calls = entry(&mut problems, problem);
        entry(calls, reply.call).push(reply.version.to_string());
    }
    let line = |(problem, calls): (&str, Calls<'_>)| {
        let calls: Vec<String> =
            calls.into_iter().map(|(call, versions)| format!("{call} ({})", versions.join(", "))).collect();
        format!("  over {protocol}, {}: {}\n", calls.join(", "), shown(problem))
    };
    problems.into_iter().map(line).collect()
}

/// What belongs to a key, in the order in which keys come.
fn entry<'a, 'k, T: Default>(entries: &'a mut Vec<(&'k str, T)>, key: &'k str) -> &'a mut T {
    let known = entries.iter().position(|(other, _)| *other == key);
    let index = known.unwrap_or_else(|| {
        entries.push((key, T::default()));
        entries.len() - 1
    });
    &mut entries[index].1
}

/// What is registered.
fn services(addresses: &str, services: &[Service]) -> String {
    let mut table = table::new(["program", "version", "netid", "address", "port", "service", "owner"]);
    for column in table.column_iter_mut() {
        if matches!(column.index, 0 | 1 | 4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for service in services.iter().take(MAX_SERVICES) {
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| NONE.to_owned(), shown);
        table.add_row([
            service.program.to_string(),
            service.version.to_string(),
            shown(&service.netid),
            text(&service.address),
            service.port.map_or_else(|| NONE.to_owned(), |port| port.to_string()),
            text(&service.service),
            text(&service.owner),
        ]);
    }
    let mut text = format!("Registered, as reported by {addresses}\n\n{}", table::indented(&table));
    if let Some(more @ 1..) = services.len().checked_sub(MAX_SERVICES) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  and {more} more (--json)");
    }
    text
}

/// A text in one line that means nothing to terminals.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_TEXT).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    printable(&cut) + more
}
