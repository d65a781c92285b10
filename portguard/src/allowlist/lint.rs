//! Finds problems of entries that are valid prefixes: in single entries, and between entries.

use std::net::IpAddr;
use std::ops::BitXor;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::parse::Content;
use super::text::Source;
use super::{Effective, Entry, MAX_PREFIXES_PER_FAMILY};
use crate::family::Family;
use crate::printable::counted;

/// Adds the errors and warnings about the entries of a file.
pub(super) fn lint(
    Content { entries, udp_calls }: &Content,
    source: &Source<'_>,
    errors: &mut Diagnostics,
    warnings: &mut Diagnostics,
) {
    for entry in entries {
        if let Some((message, help)) = oddity(entry.prefix) {
            add(warnings, Severity::Warning, source, entry, || (message, help));
        }
    }
    relate(entries, |relation| match relation {
        Relation::Same { first, again } => {
            add(errors, Severity::Error, source, &entries[again], || {
                let Entry { prefix, span, .. } = &entries[first];
                (
                    format!("{prefix} is on the list twice"),
                    format!("it is on line {} already: remove one of them", span.line),
                )
            });
        }
        Relation::Inside { outer, inner } => {
            let (outer, inner) = (&entries[outer], &entries[inner]);
            let [ours, theirs] = [inner, outer].map(|it| Effective::of(it.conditions(), *udp_calls));
            let strictures = ours.stricter_than(&theirs);
            let where_it_is =
                || format!("{} is inside {}, on line {}", inner.prefix, outer.prefix, outer.span.line);
            if !strictures.is_empty() {
                add(warnings, Severity::Warning, source, inner, || {
                    (
                        format!("{}, and is stricter: {}", where_it_is(), strictures.text(inner.prefix)),
                        "the longest prefix decides, with its own conditions; if that is not intended, remove it".to_owned(),
                    )
                });
            } else if ours.is_needless_in(&theirs) {
                add(warnings, Severity::Warning, source, inner, || {
                    (where_it_is(), "the larger prefix already allows it: remove one of them".to_owned())
                });
            }
        }
    });
}

/// The warning about an entry that has ended; `now` is not before its end.
pub(super) fn ended(entry: &Entry, until: Timestamp, now: Timestamp, source: &Source<'_>) -> Diagnostic {
    let seconds = now.duration_since(until).as_secs().unsigned_abs();
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    Diagnostic {
        severity: Severity::Warning,
        message: format!("{} ended {} ago, at {until}", entry.prefix, counted(number, unit)),
        help: Some(
            "it stays on the list and allows nobody, also inside a larger prefix: change `until`, or remove the entry"
                .to_owned(),
        ),
        place: Some(source.place(entry.span)),
    }
}

fn add(
    to: &mut Diagnostics,
    severity: Severity,
    source: &Source<'_>,
    entry: &Entry,
    texts: impl FnOnce() -> (String, String),
) {
    to.push_with(entry.span.line, entry.span.column, || {
        let (message, help) = texts();
        Diagnostic { severity, message, help: Some(help), place: Some(source.place(entry.span)) }
    });
}

/// A relation between two entries, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    /// Two entries have the same prefix.
    Same { first: usize, again: usize },
    /// The prefix of the entry `inner` lies within that of `outer`, the longest of the prefixes around it.
    Inside { outer: usize, inner: usize },
}

/// Finds all relations. Of several entries with the same prefix, only the first one is in relations of nesting.
pub(super) fn relate(entries: &[Entry], mut found: impl FnMut(Relation)) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        match entry.prefix {
            IpNet::V4(prefix) => v4.push(Sorted::of(prefix.addr().to_bits(), prefix.prefix_len(), index)),
            IpNet::V6(prefix) => v6.push(Sorted::of(prefix.addr().to_bits(), prefix.prefix_len(), index)),
        }
    }
    relate_family(v4, |common: u32| common.leading_zeros(), &mut found);
    relate_family(v6, |common: u128| common.leading_zeros(), &mut found);
}

/// An entry in the form in which entries are sorted: by network, then by length, so that a prefix comes right before all that lies
/// within it. It is small, because to sort is most of the work on a long list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sorted<N> {
    network: N,
    /// The length, and the number of the entry in the lower bits.
    rest: u32,
}

impl<N: Copy + Ord> Sorted<N> {
    const INDEX_BITS: u32 = 24;

    fn of(network: N, length: u8, index: usize) -> Self {
        const { assert!(2 * MAX_PREFIXES_PER_FAMILY <= 1 << Self::INDEX_BITS) }
        Self { network, rest: u32::from(length) << Self::INDEX_BITS | index as u32 }
    }

    fn length(self) -> u32 {
        self.rest >> Self::INDEX_BITS
    }

    fn index(self) -> usize {
        (self.rest & ((1 << Self::INDEX_BITS) - 1)) as usize
    }
}

/// Finds the relations in an address family. `leading_zeros` counts those of the bits in which two networks differ.
fn relate_family<N: Copy + Ord + BitXor<Output = N>>(
    mut entries: Vec<Sorted<N>>,
    leading_zeros: impl Fn(N) -> u32,
    found: &mut impl FnMut(Relation),
) {
    entries.sort_unstable();
    // The prefixes around the current one, from the largest to the smallest.
    let mut around: Vec<Sorted<N>> = Vec::new();
    for entry in entries {
        let contains = |outer: &Sorted<N>| {
            outer.length() <= entry.length() && leading_zeros(outer.network ^ entry.network) >= outer.length()
        };
        while around.last().is_some_and(|outer| !contains(outer)) {
            around.pop();
        }
        match around.last() {
            Some(first) if first.network == entry.network && first.length() == entry.length() => {
                found(Relation::Same { first: first.index(), again: entry.index() });
                continue;
            }
            Some(outer) => found(Relation::Inside { outer: outer.index(), inner: entry.index() }),
            None => {}
        }
        around.push(entry);
    }
}

/// The warning about a prefix, and the advice for the user; `None` if there is no warning.
pub(crate) fn oddity(prefix: IpNet) -> Option<(String, String)> {
    if prefix.prefix_len() == 0 {
        let family = Family::of(prefix.addr()).name();
        return Some((
            format!("{prefix} allows everyone: nothing is guarded over {family}"),
            "write the networks of your clients instead".to_owned(),
        ));
    }
    if let Some(meant) = mapped(prefix) {
        return Some((
            format!("{prefix} is an IPv4-mapped prefix, and no packet has such a source"),
            format!("IPv4 clients send from IPv4 addresses; did you mean {meant}?"),
        ));
    }
    never_a_source(prefix).map(|(why, help)| (format!("{prefix} {why}"), help.to_owned()))
}

/// The IPv4 prefix that an IPv4-mapped one (RFC 4291, 2.5.5.2) stands for.
fn mapped(prefix: IpNet) -> Option<Ipv4Net> {
    let IpNet::V6(prefix) = prefix else { return None };
    let length = prefix.prefix_len().checked_sub(96)?;
    Ipv4Net::new(prefix.addr().to_ipv4_mapped()?, length).ok()
}

/// Why no packet that a network card receives has a source in a prefix, and the advice for the user.
fn never_a_source(prefix: IpNet) -> Option<(&'static str, &'static str)> {
    let (first, last) = (prefix.network(), prefix.broadcast());
    let within = |what: fn(&IpAddr) -> bool| what(&first) && what(&last);
    if within(IpAddr::is_loopback) {
        Some((
            "is never the source of a packet on a network card",
            "remove it: local clients use `lo`, which is not guarded",
        ))
    } else if within(IpAddr::is_multicast) {
        Some((
            "is multicast: no packet has such a source",
            "write the addresses of the clients, not of a group",
        ))
    } else if within(IpAddr::is_unspecified) {
        Some((
            "is one address, and no client has it",
            "it does not mean everyone: write the networks of your clients",
        ))
    } else if within(|address| matches!(address, IpAddr::V4(address) if address.is_broadcast())) {
        Some(("is the broadcast address: no packet has this source", "write the addresses of the clients"))
    } else {
        None
    }
}
