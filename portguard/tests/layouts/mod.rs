//! Random lists, in whatever layout YAML has, with and without conditions.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

/// Any prefix but everyone.
pub(crate) fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 1..=32_u8)
            .prop_map(|(bits, length)| Ipv4Net::new(bits.into(), length).unwrap().trunc().into()),
        (any::<u128>(), 1..=128_u8)
            .prop_map(|(bits, length)| Ipv6Net::new(bits.into(), length).unwrap().trunc().into()),
        // Written with a colon at its end.
        any::<u32>().prop_map(|bits| Ipv6Net::new((u128::from(bits) << 96).into(), 128).unwrap().into()),
    ]
}

/// Prefixes, each once, and how each is written.
fn written() -> impl Strategy<Value = Vec<(IpNet, u8, String)>> {
    prop::collection::btree_map(prefix(), (any::<u8>(), "[a-z#:\"' ,-]{0,8}"), 0..8)
        .prop_map(|entries| entries.into_iter().map(|(prefix, (form, word))| (prefix, form, word)).collect())
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\\\""))
}

/// A list as a block.
fn block(entries: &[(IpNet, u8, String)], indentation: usize, ends: &str) -> String {
    let blanks = " ".repeat(indentation);
    let mut text = "allow:\n".to_owned();
    for (prefix, form, word) in entries {
        text += &match form % 15 {
            0 => format!("{blanks}- {prefix}\n"),
            1 => format!("{blanks}-   '{prefix}'   # {word}\n"),
            2 => format!("{blanks}- prefix: {prefix}\n{blanks}  comment: {}\n", quoted(word)),
            3 => format!(
                "{blanks}- comment: {}\n{blanks}  # {word}\n{blanks}  prefix: {prefix}\n",
                quoted(word)
            ),
            4 => format!("{blanks}- {{prefix: \"{prefix}\",\n{blanks}   comment: {}}}\n", quoted(word)),
            5 => format!("{blanks}-\n{blanks}    \"{prefix}\"\n"),
            6 => format!(
                "{blanks}- prefix: {prefix}\n{blanks}  comment: |\n{blanks}     a # {word}\n{blanks}     b\n"
            ),
            7 => format!("{blanks}- prefix: {prefix}\n{blanks}  comment:\n"),
            8 => format!(
                "{blanks}- prefix: {prefix}\n{blanks}  comment: >-\n{blanks}    a\n\n{blanks}    b\n\n"
            ),
            9 => format!("{blanks}- prefix: {prefix}\n{blanks}  comment: a\n{blanks}    b # {word}\n"),
            _ => format!("{blanks}- # {word}\n{blanks}  {prefix}\n"),
        };
        text += match form / 11 % 6 {
            0 => "\n",
            1 => "# a remark\n",
            2 => "        # a remark that is indented\n",
            3 => "\n \n\n",
            _ => "",
        };
    }
    text + ends
}

/// A list between brackets.
fn flow(entries: &[(IpNet, u8, String)], layout: u8) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(prefix, form, word)| match form % 6 {
            0 => format!("\"{prefix}\""),
            1 => format!("'{prefix}'"),
            2 => format!("{{prefix: \"{prefix}\", comment: {}}}", quoted(word)),
            3 => format!("prefix: \"{prefix}\""),
            4 => format!("{{prefix: \"{prefix}\", interfaces: [eth1, \"*0\"], rate: 9/s}}"),
            _ => {
                format!("{{\"until\": \"2026-12-01T18:00:00Z\", \"prefix\": \"{prefix}\", \"udp\": \"all\"}}")
            }
        })
        .collect();
    let comma = if layout & 1 == 1 && !entries.is_empty() { "," } else { "" };
    let inner = match layout >> 1 & 3 {
        0 => entries.join(", ") + comma,
        1 => format!("\n    {}{comma}\n", entries.join(",\n    ")),
        2 => format!(" # [\n  {}{comma} # ],\n  ", entries.join(", # ,\n  ")),
        _ => format!("{} {comma} ", entries.join(" ,  ")),
    };
    match layout >> 3 & 3 {
        0 => format!("allow: [{inner}]"),
        1 => format!("# a remark\nallow:\n  [{inner}] # a remark\n# [\n"),
        2 => format!("{{\"allow\": [{inner}]}}\n"),
        _ => format!("%YAML 1.2\n---\n{{allow: [{inner}], }}\n...\n"),
    }
}

/// A list in any layout, entries and comments as people write them. Not each text is YAML, but most are.
pub(crate) fn list() -> impl Strategy<Value = String> {
    let ends = prop_oneof![
        Just(""),
        Just("\n\n"),
        Just("# the end"),
        Just("  # the end\n"),
        Just("...\n"),
        Just("...\n# the end\n"),
    ];
    let block =
        (written(), 0..6_usize, ends, any::<u8>()).prop_map(|(mut entries, indentation, ends, bits)| {
            if entries.is_empty() {
                entries.push(("10.0.0.0/8".parse().unwrap(), 0, String::new()));
            }
            let mut text = block(&entries, indentation, ends);
            if bits & 3 == 0 {
                text.truncate(text.trim_end_matches('\n').len());
            }
            if bits >> 2 & 7 == 0 { format!("---\n{text}") } else { text }
        });
    let flow = (written(), any::<u8>()).prop_map(|(entries, layout)| flow(&entries, layout));
    (prop_oneof![2 => block, 1 => flow], any::<u8>()).prop_map(|(text, bits)| {
        let text = if bits & 7 == 0 { text.replace('\n', "\r\n") } else { text };
        if bits >> 3 & 7 == 0 { format!("\u{feff}{text}") } else { text }
    })
}
