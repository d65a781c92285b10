//! Properties of the allowlist, on lists and bytes that proptest makes up.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;

use super::lint::{Relation, relate};
use super::text::Span;
use super::{Allowlist, Checked, Diagnostic, Entry, Invalid, Style, prefix};

const PATH: &str = "list.yaml";

fn parse(text: impl AsRef<[u8]>) -> Result<Checked, Box<Invalid>> {
    Allowlist::parse(Path::new(PATH), text.as_ref())
}

/// A prefix of any length, anywhere.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| (IpAddr::V4(Ipv4Addr::from_bits(bits)), length)),
        (any::<u128>(), 0..=128_u8)
            .prop_map(|(bits, length)| (IpAddr::V6(Ipv6Addr::from_bits(bits)), length)),
    ]
    .prop_map(|(address, length)| IpNet::new(address, length).expect("the length is in range").trunc())
}

/// One of few prefixes, so that equal and nested ones are common.
fn crowded_prefix() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), 0..16_u8, 0..=4_u8).prop_map(|(v6, bits, length)| {
        let address = if v6 {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 124))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(bits) << 28))
        };
        IpNet::new(address, length).expect("the length is in range").trunc()
    })
}

/// The two ways to write an entry.
fn write(prefix: IpNet, comment: Option<&String>, flow: bool) -> String {
    match comment {
        // A JSON string is a double-quoted YAML one.
        Some(comment) if flow => {
            format!("  - {{comment: {}, prefix: \"{prefix}\"}}\n", serde_json::json!(comment))
        }
        Some(comment) => format!("  - prefix: {prefix}\n    comment: {}\n", serde_json::json!(comment)),
        None => format!("  - {prefix}\n"),
    }
}

fn entries_of(prefixes: &[IpNet]) -> Vec<Entry> {
    let span = Span { start: 0, end: 0, line: 1, column: 1 };
    prefixes.iter().map(|prefix| Entry { prefix: *prefix, comment: None, conditions: None, span }).collect()
}

/// What [`relate`] must find, seen prefix by prefix.
fn relations_by_definition(prefixes: &[IpNet]) -> Vec<Relation> {
    let first = |index: usize| prefixes.iter().position(|other| *other == prefixes[index]);
    let mut relations = Vec::new();
    for (inner, prefix) in prefixes.iter().enumerate() {
        match first(inner) {
            Some(first) if first < inner => relations.push(Relation::Same { first, again: inner }),
            _ => relations.extend(
                (0..prefixes.len())
                    .filter(|outer| prefixes[*outer] != *prefix && prefixes[*outer].contains(prefix))
                    .filter(|outer| first(*outer) == Some(*outer))
                    .max_by_key(|outer| prefixes[*outer].prefix_len())
                    .map(|outer| Relation::Inside { outer, inner }),
            ),
        }
    }
    relations
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        written in vec((any_prefix(), proptest::option::of("\\PC*"), any::<bool>()), 0..40)
    ) {
        let mut written = written;
        let mut seen = HashSet::new();
        written.retain(|(prefix, ..)| seen.insert(*prefix));
        let mut list = String::from("allow: []\n");
        if !written.is_empty() {
            list = "allow:\n".to_owned();
            list.extend(written.iter().map(|(prefix, comment, flow)| write(*prefix, comment.as_ref(), *flow)));
        }
        let Checked { allowlist, .. } = parse(&list).map_err(|invalid| TestCaseError::fail(invalid.render(Style::Plain)))?;
        let read: Vec<_> =
            allowlist.entries().iter().map(|entry| (entry.prefix(), entry.comment().map(str::to_owned))).collect();
        let expected: Vec<_> = written.into_iter().map(|(prefix, comment, _)| (prefix, comment)).collect();
        prop_assert_eq!(read, expected);
        let v4 = seen.iter().filter(|prefix| prefix.addr().is_ipv4()).count();
        prop_assert_eq!((allowlist.prefixes_v4(), allowlist.prefixes_v6()), (v4, seen.len() - v4));
    }

    #[test]
    fn an_entry_knows_its_place(prefixes in hash_set(any_prefix(), 0..20), blanks in 0..10_usize) {
        let indent = " ".repeat(blanks);
        let entries: String = prefixes.iter().map(|prefix| format!("{indent}-  '{prefix}' # ü\n")).collect();
        let list = if prefixes.is_empty() { "allow: []".to_owned() } else { format!("allow:\n{entries}") };
        let checked = parse(list).map_err(|invalid| TestCaseError::fail(invalid.render(Style::Plain)))?;
        let places: Vec<_> =
            checked.allowlist.entries().iter().map(|entry| (entry.line() as usize, entry.column() as usize)).collect();
        let expected: Vec<_> = (0..prefixes.len()).map(|number| (number + 2, blanks + 4)).collect();
        prop_assert_eq!(places, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400)) {
        parse_any(&bytes);
    }

    #[test]
    fn nothing_like_yaml_makes_it_panic(text in "([-:?,&*#!|>'\"%@`\\[\\]{}~ \t\n\r\u{85}\u{2028}\u{feff}ü\0]|allow|prefix|comment|interfaces|until|udp|rate|2026-12-01|1/s|null|10\\.0\\.0\\.0/8|::/0|<<|---|\\.\\.\\.|\\\\){0,60}") {
        parse_any(text.as_bytes());
        parse_any(format!("allow:\n  - {text}").as_bytes());
    }

    #[test]
    fn a_text_is_a_prefix_if_the_standard_library_says_so(
        text in prop_oneof![
            "\\PC*",
            "[0-9a-f:./]{0,20}",
            "(0|1|10|255|256|08)(\\.(0|1|255|00)){3}(/(0|8|24|32|33|08|[+]8))?",
            any_prefix().prop_map(|prefix| prefix.to_string()),
            any_prefix().prop_map(|prefix| prefix.addr().to_string()),
            (any_prefix(), "[ /0-9a-f.:%*-]").prop_map(|(prefix, more)| format!("{prefix}{more}")),
        ]
    ) {
        let expected = by_the_standard_library(&text);
        prop_assert_eq!(prefix::parse(&text).ok(), expected);
        let list = format!("# one\nallow:\n  - {}\n", serde_json::json!(text));
        match (parse(&list), expected) {
            (Ok(checked), Some(expected)) => {
                let prefixes: Vec<_> = checked.allowlist.entries().iter().map(Entry::prefix).collect();
                prop_assert_eq!(prefixes, vec![expected]);
            }
            (Err(invalid), None) => {
                prop_assert_eq!(invalid.errors.total(), 1);
                let places: Vec<_> = invalid.errors.iter().map(place_of).collect();
                prop_assert_eq!(places, vec![Some((3, 5))]);
                prop_assert!(invalid.render(Style::Plain).contains("list.yaml:3:5"));
            }
            (parsed, expected) => prop_assert!(false, "{parsed:?}, but expected {expected:?}"),
        }
    }

    #[test]
    fn relations_are_those_of_the_definition(prefixes in vec(crowded_prefix(), 0..30)) {
        let mut found = Vec::new();
        relate(&entries_of(&prefixes), |relation| found.push(relation));
        found.sort_unstable();
        let mut expected = relations_by_definition(&prefixes);
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

fn place_of(diagnostic: &Diagnostic) -> Option<(u32, u32)> {
    diagnostic.place.as_ref().map(|place| (place.line, place.column))
}

/// The prefix that the standard library's parsers make of a text.
fn by_the_standard_library(text: &str) -> Option<IpNet> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let net = match length {
        None => IpNet::from(address),
        Some(length) => {
            let number: u8 = length.parse().ok()?;
            // The standard library takes `+8` and `08`.
            IpNet::new(address, number).ok().filter(|_| number.to_string() == length)?
        }
    };
    (net == net.trunc()).then_some(net)
}

/// Goes through everything that is done with a list, and looks at what holds for any of them.
fn parse_any(bytes: &[u8]) {
    let diagnostics = match parse(bytes) {
        Ok(checked) => checked.warnings,
        Err(invalid) => {
            assert!(invalid.errors.total() > 0);
            assert!(!invalid.render(Style::Coloured).is_empty());
            invalid.errors
        }
    };
    let text = diagnostics.render(Style::Plain);
    let harmless = |character: char| character == '\n' || !character.is_control();
    assert!(text.chars().all(harmless), "{text:?} has control characters");
}
