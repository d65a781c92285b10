//! The conditions of an entry, as the file states them.

mod compare;
mod read;

use std::fmt;
use std::num::NonZeroU32;

use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

pub use self::compare::Effective;
pub(super) use self::read::MAX_INTERFACES;
pub(crate) use self::read::{read_duration, read_interface, read_moment, read_rate, read_until};

/// The conditions of an entry. Without any, the entry allows always and everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The interfaces that it is for; `None` for all of them.
    pub interfaces: Option<Box<[InterfacePattern]>>,
    /// When it ends to allow: from 1970 on, and before 2500.
    pub until: Option<Timestamp>,
    /// The calls that it permits over UDP; `None` for those that the whole list permits.
    pub udp: Option<UdpCalls>,
    /// How many packets over UDP it lets pass in a second.
    pub rate: Option<NonZeroU32>,
}

impl Conditions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As a part of a sentence about an entry: `until 2026-12-01T18:00:00Z, on eth1 or bond0, udp lookups, 100/s over UDP`.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interfaces, until, udp, rate } = self;
        let mut parts = Vec::new();
        parts.extend(until.map(|until| format!("until {until}")));
        parts.extend(interfaces.as_deref().map(|interfaces| format!("on {}", either(interfaces))));
        parts.extend(udp.map(|udp| format!("udp {}", udp.key())));
        parts.extend(rate.map(|rate| format!("{rate}/s over UDP")));
        f.write_str(&parts.join(", "))
    }
}

/// Interfaces in a sentence: `eth0, eth1 or bond*`.
fn either(interfaces: &[InterfacePattern]) -> String {
    let names: Vec<&str> = interfaces.iter().map(InterfacePattern::as_str).collect();
    match &*names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} or {last}", names.join(", ")),
    }
}

/// The name of an interface, or a pattern of names: `*` stands for any characters, also for none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfacePattern(Box<str>);

impl InterfacePattern {
    /// Its text, as portguard shows names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches the name, or an alternative name, of an interface.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        // The first part is at the beginning, the last one at the end, and the others are between, in their order.
        let first = parts.next().unwrap_or_default();
        let Some(rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(last) else { return false };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_as_documented() {
        let interfaces = ["eth1", "bond*"].map(|name| read_interface(name).unwrap());
        let conditions = Conditions {
            interfaces: Some(interfaces.into()),
            until: Some(read_until("2026-12-01T18:00:00Z").unwrap()),
            udp: Some(UdpCalls::Lookups),
            rate: NonZeroU32::new(100),
        };
        assert_eq!(
            conditions.to_string(),
            "until 2026-12-01T18:00:00Z, on eth1 or bond*, udp lookups, 100/s over UDP"
        );
        assert_eq!(Conditions::default().to_string(), "");
        assert!(Conditions::default().is_empty() && !conditions.is_empty());
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, name: &str| read_interface(pattern).unwrap().matches(name);
        for (pattern, name) in [
            ("eth0", "eth0"),
            ("*", "eth0"),
            ("eth*", "eth"),
            ("e*0", "eth0"),
            ("*t*0*", "eth0"),
            ("**", "x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("eth0", "eth01"), ("eth*", "aeth0"), ("e*0", "eth1"), ("eth*h0", "eth0"), ("*a*a*", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
