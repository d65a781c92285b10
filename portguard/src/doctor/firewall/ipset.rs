//! The sets that rules of iptables name, as `ipset save` prints them (ipset(8)). Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::rules::Atom;

/// The addresses in each set, by its name.
pub(super) type Sets = BTreeMap<String, Vec<Atom>>;

/// Reads the sets. An element that is not understood may be any address.
pub(super) fn parse(text: &str) -> Sets {
    let mut sets = Sets::new();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["create", name, ..] => {
                sets.entry(name.to_owned()).or_default();
            }
            // What it excludes from a larger element makes the set smaller: it stays finite.
            ["add", _, _, .., "nomatch"] => {}
            ["add", name, element, ..] => sets.entry(name.to_owned()).or_default().push(atom(element)),
            _ => {}
        }
    }
    sets
}

/// The address, which comes first in an element of several parts.
fn atom(element: &str) -> Atom {
    let address = element.split(',').next().unwrap_or_default();
    let parse = || match address.split_once('-') {
        Some((low, high)) => Some(Atom::Addresses(low.parse().ok()?, high.parse().ok()?)),
        None => {
            let prefix = address.parse::<IpNet>().or_else(|_| address.parse::<IpAddr>().map(IpNet::from));
            prefix.ok().map(Atom::Prefix)
        }
    };
    parse().unwrap_or(Atom::Unknown)
}
