//! The difference between the list in force and a new list.

use std::cmp::Ordering;
use std::fmt;

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;

/// The prefixes that two lists differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In the new list only.
    pub added: Vec<IpNet>,
    /// In the old list only.
    pub removed: Vec<IpNet>,
    /// In both lists, with other conditions.
    pub changed: Vec<IpNet>,
    /// The number of prefixes in both lists, with the same conditions.
    pub unchanged: usize,
    /// The calls that the old list permits over UDP, and those of the new one.
    pub udp_calls: (UdpCalls, UdpCalls),
    /// The generation of the old list, and of the new one.
    pub generations: (u64, u64),
}

impl Difference {
    /// Compares the prefixes of the list in force with those of one that may replace it. Both are in order, without
    /// repetitions. `generation` is that of the list in force.
    pub fn new(old: &[IpNet], new: &[IpNet], generation: u64) -> Self {
        let mut difference = Self {
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
            unchanged: 0,
            udp_calls: (UdpCalls::All, UdpCalls::All),
            generations: (generation, generation + 1),
        };
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return difference,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.cmp(after),
            };
            match order {
                Ordering::Less => difference.removed.extend(old.next()),
                Ordering::Greater => difference.added.extend(new.next()),
                Ordering::Equal => {
                    difference.unchanged += 1;
                    let _ = (old.next(), new.next());
                }
            }
        }
    }

    /// The same, of lists that permit these calls over UDP.
    #[must_use]
    pub fn with_udp_calls(self, old: UdpCalls, new: UdpCalls) -> Self {
        Self { udp_calls: (old, new), ..self }
    }

    /// The same, where these prefixes have other conditions in the new list.
    #[must_use]
    pub fn with_changed(mut self, changed: Vec<IpNet>) -> Self {
        let is_new = |prefix: &IpNet| self.added.binary_search(prefix).is_ok();
        let is_old = |prefix: &IpNet| self.removed.binary_search(prefix).is_ok();
        self.changed = changed.into_iter().filter(|prefix| !is_new(prefix) && !is_old(prefix)).collect();
        self.unchanged -= self.changed.len();
        self
    }

    /// The numbers of changed prefixes: `+2 -1`, or `+2 -1 ~1` if some have other conditions.
    pub fn summary(&self) -> String {
        let Self { added, removed, changed, .. } = self;
        let changed = if changed.is_empty() { String::new() } else { format!(" ~{}", changed.len()) };
        format!("+{} -{}{changed}", added.len(), removed.len())
    }

    /// The added and removed prefixes, and those with other conditions, one on each line, at most `limit` of them.
    pub fn lines(&self, limit: usize) -> String {
        let changes = self.added.iter().map(|prefix| ('+', prefix));
        let changes = changes.chain(self.removed.iter().map(|prefix| ('-', prefix)));
        let changes = changes.chain(self.changed.iter().map(|prefix| ('~', prefix)));
        let mut text: String =
            changes.take(limit).map(|(sign, prefix)| format!("  {sign} {prefix}\n")).collect();
        let all = self.added.len() + self.removed.len() + self.changed.len();
        if all > limit {
            text += &format!("  and {} more\n", all - limit);
        }
        text
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = self.generations;
        write!(f, "{}, {} unchanged, ", self.summary(), self.unchanged)?;
        if let Some(change) = change_of_udp_calls(self.udp_calls) {
            write!(f, "{change}, ")?;
        }
        write!(f, "generation {old} -> {new}")
    }
}

/// The change in words, if there is one.
pub fn change_of_udp_calls((old, new): (UdpCalls, UdpCalls)) -> Option<String> {
    (old != new).then(|| format!("udp {} -> {}", old.key(), new.key()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prefixes: &[&str]) -> Vec<IpNet> {
        let mut prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        prefixes.sort_unstable();
        prefixes
    }

    #[test]
    fn a_difference_reads_as_documented() {
        let old = set(&["192.0.2.0/24", "198.51.100.7/32"]);
        let new = set(&["192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"]);
        let difference = Difference::new(&old, &new, 5);
        assert_eq!(difference.to_string(), "+2 -1, 1 unchanged, generation 5 -> 6");
        assert_eq!(difference.lines(9), "  + 203.0.113.0/24\n  + 2001:db8::/32\n  - 198.51.100.7/32\n");
        let stricter = difference.clone().with_udp_calls(UdpCalls::All, UdpCalls::Lookups);
        assert_eq!(stricter.to_string(), "+2 -1, 1 unchanged, udp all -> lookups, generation 5 -> 6");
        assert_eq!(difference.lines(1), "  + 203.0.113.0/24\n  and 2 more\n");
        let changed = difference.with_changed(set(&["192.0.2.0/24", "203.0.113.0/24"]));
        assert_eq!(changed.to_string(), "+2 -1 ~1, 0 unchanged, generation 5 -> 6");
        assert!(
            changed.lines(9).ends_with("  - 198.51.100.7/32\n  ~ 192.0.2.0/24\n"),
            "{}",
            changed.lines(9)
        );
    }
}
