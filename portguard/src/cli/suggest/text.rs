//! A proposed allowlist as the file that it is to become.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::document::Document;
use crate::suggest::proposal::{LeftOut, Origin, Proposal, Proposed};

/// How many prefixes are named that a larger one covers.
const NAMED: usize = 3;
/// How much is shown of a text that somebody else has written, in characters.
const MAX_TEXT: usize = 300;

const HEAD: &str = "\
# Proposed by `portguard suggest`, from what this host knows. Read it before you use it: clients that this host does not
# know are missing. It does not repeat the list in force. Names were looked up when it was made.
";

/// The list as the file that it is to become.
pub fn yaml(document: &Document) -> String {
    let Proposal { entries, left_out, unproven, unproven_more } = &document.proposal;
    let mut text = HEAD.to_owned();
    if entries.is_empty() {
        text += "# Nothing was found: no exports, no networks, no clients. This list drops everyone.\n";
    }
    if !left_out.is_empty() {
        text += "#\n# Not in the list:\n";
    }
    for LeftOut { what, origin, why } in left_out {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# - {} ({}): {}", shown(what), shown(origin), shown(why));
    }
    text += match (&entries[..], &unproven[..]) {
        ([], []) => "allow: []\n",
        ([], _) => "allow: []  # remove the [] if you take entries from below\n",
        _ => "allow:\n",
    };
    for proposed in entries {
        let [prefix, comment] = entry(proposed);
        let _ = writeln!(text, "  - {prefix}\n    {comment}");
    }
    if !unproven.is_empty() {
        text += "# Seen in audit mode. Sources of packets can be forged: remove the # in front of those that are your clients.\n";
    }
    for proposed in unproven {
        let [prefix, comment] = entry(proposed);
        let _ = writeln!(text, "#  - {prefix}\n#    {comment}");
    }
    if *unproven_more > 0 {
        let _ = writeln!(text, "# and {unproven_more} more (portguard stats)");
    }
    text
}

/// The lines of an entry.
fn entry(Proposed { prefix, origins }: &Proposed) -> [String; 2] {
    let comment = origins.iter().map(words).collect::<Vec<_>>().join("; ");
    [format!("prefix: {}", short(*prefix)), format!("comment: {}", quoted(&comment))]
}

/// An origin, with what else there is to say.
fn words(Origin { origin, detail, covers }: &Origin) -> String {
    let mut words = shown(origin);
    if let Some(detail) = detail {
        words += &format!(" ({})", shown(detail));
    }
    if !covers.is_empty() {
        let (named, more) = covers.split_at(covers.len().min(NAMED));
        let named: Vec<String> = named.iter().map(|prefix| short(*prefix)).collect();
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        words += &format!(" ({}{more})", named.join(", "));
    }
    words
}

/// A prefix; a single address without its length, unless YAML would take the colon at its end for one of its own.
fn short(prefix: IpNet) -> String {
    let address = prefix.addr().to_string();
    if prefix.prefix_len() == prefix.max_prefix_len() && !address.ends_with(':') {
        address
    } else {
        prefix.to_string()
    }
}

/// A scalar of YAML in double quotes; the text is one that [`shown`] has made.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text in one line, of characters that mean nothing to YAML in comments or quotes, and nothing to terminals.
fn shown(text: &str) -> String {
    let plain =
        |character: char| character == ' ' || character.is_ascii_graphic() || character.is_alphanumeric();
    let mut shown = String::new();
    for character in text.chars().take(MAX_TEXT) {
        if plain(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    if text.chars().nth(MAX_TEXT).is_some() {
        shown.push_str("...");
    }
    shown
}
