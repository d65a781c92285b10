//! What the conditions of an entry inside another one change: the longest prefix decides, with its own conditions.

use std::num::NonZeroU32;

use ipnet::IpNet;
use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

use super::{Conditions, InterfacePattern, either};

/// The conditions that are in effect for an entry: its own ones, and those of the whole list that it does not override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective<'a> {
    /// The interfaces that it is for; `None` for all of them.
    pub interfaces: Option<&'a [InterfacePattern]>,
    /// When it ends to allow.
    pub until: Option<Timestamp>,
    /// The calls that it permits over UDP.
    pub udp: UdpCalls,
    /// How many packets over UDP it lets pass in a second.
    pub rate: Option<NonZeroU32>,
}

impl<'a> Effective<'a> {
    /// Those of an entry with these conditions, in a list that permits these calls over UDP.
    pub fn of(conditions: Option<&'a Conditions>, list: UdpCalls) -> Self {
        let Some(Conditions { interfaces, until, udp, rate }) = conditions else {
            return Self { interfaces: None, until: None, udp: list, rate: None };
        };
        Self { interfaces: interfaces.as_deref(), until: *until, udp: udp.unwrap_or(list), rate: *rate }
    }

    /// Whether an entry with these conditions allows the same as one with those.
    pub(crate) fn allows_as(&self, other: &Self) -> bool {
        (self.until, self.udp, self.rate) == (other.until, other.udp, other.rate)
            && covers(self.interfaces, other.interfaces)
            && covers(other.interfaces, self.interfaces)
    }

    /// Whether an entry with these conditions inside one with those changes nothing. A rate always changes something: each entry
    /// has a budget of its own.
    pub(in crate::allowlist) fn is_needless_in(&self, outer: &Self) -> bool {
        self.rate.is_none() && self.allows_as(outer)
    }

    /// In what these conditions deny packets that those allow.
    pub(crate) fn stricter_than(&self, outer: &Self) -> Strictures<'a> {
        let ends = self.until.filter(|inner| outer.until.is_none_or(|outer| *inner < outer));
        let has_budget = self.udp != UdpCalls::None && outer.udp != UdpCalls::None;
        let rate = self.rate.filter(|inner| has_budget && outer.rate.is_none_or(|outer| *inner < outer));
        Strictures {
            until: ends,
            interfaces: self.interfaces.filter(|_| !covers(self.interfaces, outer.interfaces)),
            udp: Some(self.udp).filter(|inner| *inner > outer.udp),
            rate,
        }
    }
}

/// The conditions in which an entry is stricter than the one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strictures<'a> {
    until: Option<Timestamp>,
    interfaces: Option<&'a [InterfacePattern]>,
    udp: Option<UdpCalls>,
    rate: Option<NonZeroU32>,
}

impl Strictures<'_> {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { until, interfaces, udp, rate } = self;
        until.is_none() && interfaces.is_none() && udp.is_none() && rate.is_none()
    }

    /// What they do to the hosts in the prefix of the entry, as the end of a sentence whose subject is the entry.
    pub(crate) fn text(&self, prefix: IpNet) -> String {
        let Self { until, interfaces, udp, rate } = self;
        let hosts = if prefix.prefix_len() == prefix.max_prefix_len() { "the host" } else { "its hosts" };
        let mut parts = Vec::new();
        parts.extend(until.map(|until| format!("after {until} it cuts {hosts} off")));
        parts.extend(interfaces.map(|interfaces| {
            format!("on other interfaces than {} it cuts {hosts} off", either(interfaces))
        }));
        parts.extend(udp.map(|udp| match udp {
            UdpCalls::None => "over UDP it permits nothing".to_owned(),
            udp => format!("over UDP it permits {} only", udp.key()),
        }));
        parts.extend(rate.map(|rate| format!("it lets at most {rate} packets a second over UDP pass")));
        parts.join(", and ")
    }
}

/// Whether each interface that is in the second set is in the first one, as far as it follows from the patterns.
fn covers(all: Option<&[InterfacePattern]>, some: Option<&[InterfacePattern]>) -> bool {
    let Some(all) = all else { return true };
    // A pattern that matches the text of another one, in which a star is a character, matches all that the other one matches.
    let is_covered = |text: &str| all.iter().any(|pattern| pattern.matches(text));
    match some {
        None => is_covered("*"),
        Some(some) => some.iter().all(|pattern| is_covered(pattern.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::conditions::{read_interface, read_rate, read_until};

    fn conditions(text: &str) -> Conditions {
        let mut conditions = Conditions::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap();
            match key {
                "interfaces" => {
                    let names = value.split('|').map(|name| read_interface(name).unwrap());
                    conditions.interfaces = Some(names.collect());
                }
                "until" => conditions.until = Some(read_until(value).unwrap()),
                "udp" => conditions.udp = Some(UdpCalls::from_key(value).unwrap()),
                _ => conditions.rate = Some(read_rate(value).unwrap()),
            }
        }
        conditions
    }

    /// What is stricter in an entry of a list with `udp: lookups`.
    fn stricter(inner: &str, outer: &str) -> String {
        let [inner, outer] = [inner, outer].map(conditions);
        let [inner, outer] = [&inner, &outer].map(|it| Effective::of(Some(it), UdpCalls::Lookups));
        let strictures = inner.stricter_than(&outer);
        let text = strictures.text("192.0.2.7/32".parse().unwrap());
        assert_eq!(strictures.is_empty(), text.is_empty());
        assert!(!inner.allows_as(&outer) || strictures.is_empty());
        text
    }

    #[test]
    fn what_is_stricter_is_told() {
        for (inner, outer, told) in [
            ("until=2026-12-01", "", "after 2026-12-02T00:00:00Z it cuts the host off"),
            ("until=2026-12-01", "until=2026-12-02", "after 2026-12-02T00:00:00Z it cuts the host off"),
            ("interfaces=eth1", "", "on other interfaces than eth1 it cuts the host off"),
            (
                "interfaces=eth1|eth2",
                "interfaces=eth*",
                "on other interfaces than eth1 or eth2 it cuts the host off",
            ),
            ("interfaces=eth1", "interfaces=eth2", "on other interfaces than eth1 it cuts the host off"),
            ("udp=none", "", "over UDP it permits nothing"),
            ("", "udp=all", "over UDP it permits lookups only"),
            ("rate=5/s", "", "it lets at most 5 packets a second over UDP pass"),
            ("rate=5/s", "rate=6/s", "it lets at most 5 packets a second over UDP pass"),
            (
                "udp=none until=2026-12-01T00:00:00Z",
                "",
                "after 2026-12-01T00:00:00Z it cuts the host off, and over UDP it permits nothing",
            ),
        ] {
            assert_eq!(stricter(inner, outer), told, "{inner} in {outer}");
        }
    }

    #[test]
    fn what_is_more_permissive_is_not() {
        for (inner, outer) in [
            ("", ""),
            ("", "until=2026-12-01 interfaces=eth1 udp=none rate=5/s"),
            ("until=2026-12-02", "until=2026-12-01"),
            ("udp=lookups", ""),
            ("udp=all", ""),
            ("rate=6/s", "rate=5/s"),
            ("rate=5/s", "rate=5/s"),
            // Without UDP, a rate counts nothing.
            ("udp=none rate=5/s", "udp=none"),
            ("rate=5/s", "udp=none"),
            ("interfaces=*", ""),
            ("interfaces=eth*", "interfaces=eth1|eth2"),
            ("interfaces=eth*|bond0", "interfaces=eth*0|bond0"),
        ] {
            assert_eq!(stricter(inner, outer), "", "{inner} in {outer}");
        }
    }

    #[test]
    fn what_is_needless_is_the_same_without_a_rate() {
        let is_needless = |inner: &str, outer: &str| {
            let [inner, outer] = [inner, outer].map(conditions);
            let [inner, outer] = [&inner, &outer].map(|it| Effective::of(Some(it), UdpCalls::Lookups));
            inner.is_needless_in(&outer)
        };
        assert!(is_needless("", ""));
        assert!(is_needless("udp=lookups", "interfaces=*"));
        assert!(is_needless("interfaces=a|b", "interfaces=b|a|a"));
        assert!(!is_needless("rate=5/s", "rate=5/s"));
        assert!(!is_needless("", "until=2026-12-01"));
        assert!(!is_needless("interfaces=a*", "interfaces=a"));
    }
}
