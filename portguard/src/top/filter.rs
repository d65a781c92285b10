//! Which sources are shown.

use std::net::IpAddr;

use ipnet::IpNet;

/// How much can be typed: the longest prefix has 43 characters.
const LONGEST: usize = 64;

/// What was typed: part of an address, or a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// What was typed.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether all sources pass.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a character; what no address has in it is not taken.
    pub fn push(&mut self, character: char) {
        let fits = character.is_ascii_hexdigit() || ".:/".contains(character);
        if fits && self.0.len() < LONGEST {
            self.0.push(character.to_ascii_lowercase());
        }
    }

    /// Takes the last character away.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Whether a source passes. A prefix that is not typed to its end is part of no address.
    pub fn matches(&self, address: IpAddr) -> bool {
        if self.0.is_empty() {
            return true;
        }
        match self.0.parse::<IpNet>() {
            Ok(prefix) => prefix.contains(&address),
            Err(_) => address.to_string().contains(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(text: &str, address: &str) -> bool {
        let mut filter = Filter::default();
        text.chars().for_each(|character| filter.push(character));
        filter.matches(address.parse().unwrap())
    }

    #[test]
    fn part_of_an_address_or_a_prefix() {
        for (text, address) in [
            ("", "192.0.2.7"),
            ("192.0", "192.0.2.7"),
            ("2.7", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.7"),
            ("192.0.2.99/24", "192.0.2.7"),
            ("DB8:3", "2001:db8:3::9"),
            ("2001:db8::/32", "2001:db8:3::9"),
        ] {
            assert!(passes(text, address), "{text} {address}");
        }
        for (text, address) in [
            ("192.0.3", "192.0.2.7"),
            ("192.0.2.0/29", "192.0.2.9"),
            ("192.0.2.0/", "192.0.2.0"),
            ("2001:db8::/32", "192.0.2.7"),
        ] {
            assert!(!passes(text, address), "{text} {address}");
        }
    }

    #[test]
    fn it_takes_only_what_addresses_are_made_of_and_not_without_end() {
        let mut filter = Filter::default();
        "1 9\u{1b}x2.".chars().for_each(|character| filter.push(character));
        assert_eq!(filter.text(), "192.");
        (0..1000).for_each(|_| filter.push('1'));
        assert_eq!(filter.text().len(), LONGEST);
        (0..1000).for_each(|_| filter.pop());
        assert!(filter.is_empty());
    }
}
