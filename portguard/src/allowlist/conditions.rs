//! The conditions of an entry, as the file states them.

use std::num::NonZeroU32;

use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

/// The conditions of an entry. Without any, the entry allows always and everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// The interfaces that it is for; `None` for all of them.
    pub interfaces: Option<Box<[InterfacePattern]>>,
    /// When it ends to allow.
    pub until: Option<Timestamp>,
    /// The calls that it permits over UDP; `None` for those that the whole list permits.
    pub udp: Option<UdpCalls>,
    /// How many packets over UDP it lets pass in a second.
    pub rate: Option<NonZeroU32>,
}

/// The name of an interface, or a pattern of names: `*` stands for any characters, also for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePattern(Box<str>);

impl InterfacePattern {
    /// As the file has it.
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
