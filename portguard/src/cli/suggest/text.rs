//! A proposed allowlist as the file that it is to become.

use std::fmt::Write as _;

use super::document::Document;
use crate::allowlist::{Conditions, NewEntry, short};
use crate::suggest::proposal::{LeftOut, Origin, Proposal, Proposed};

/// How many prefixes are named that a larger one covers.
const NAMED: usize = 3;
/// How much is shown of a text that somebody else has written, in characters.
const MAX_TEXT: usize = 300;

/// The comment above the sources that are not proven.
pub(super) const UNPROVEN: &str = "# Seen in audit mode. Sources of packets can be forged: remove the # in front of those that are your clients.";

/// The recommended condition. It is a comment, because nothing here tells whether clients broadcast.
const UDP: &str = "\
#
# Remove the # in front of the next line, unless your clients broadcast (ypbind -broadcast, rpcinfo -b): then nobody can use these
# addresses to forge calls with large replies.
#udp: lookups
";

const HEAD: &str = "\
# Proposed by `portguard suggest`, from what this host knows. Read it before you use it: clients that this host does not
# know are missing. It does not repeat the list in force. Names were looked up when it was made.
";
const HEAD_OF_FILES: &str = "\
# Made by `portguard suggest --from`. Read it before you use it: it contains only the hosts of these files. Names were looked up
# when it was made.
";

/// The list as the file that it is to become.
pub fn yaml(document: &Document) -> String {
    let Proposal { entries, left_out, unproven, unproven_more } = &document.proposal;
    let mut text = if document.from_files { HEAD_OF_FILES } else { HEAD }.to_owned();
    if entries.is_empty() {
        text += match document.from_files {
            true => "# Nothing in them can be taken. This list allows nobody.\n",
            false => "# Nothing was found: no exports, no networks, no clients. This list allows nobody.\n",
        };
    }
    if !left_out.is_empty() {
        text += "#\n# Not in the list:\n";
    }
    for left_out in left_out {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# - {}", self::left_out(left_out));
    }
    text += UDP;
    text += match (&entries[..], &unproven[..]) {
        ([], []) => "allow: []\n",
        ([], _) => "allow: []  # remove the [] if you take entries from below\n",
        _ => "allow:\n",
    };
    for proposed in entries {
        text += &new_entry(proposed).block("  ", "\n");
    }
    if !unproven.is_empty() {
        let _ = writeln!(text, "{UNPROVEN}");
    }
    for proposed in unproven {
        text += &new_entry(proposed).block("#  ", "\n");
    }
    if *unproven_more > 0 {
        let _ = writeln!(text, "{}", more(*unproven_more));
    }
    text
}

/// How many more unproven sources there are.
pub(super) fn more(number: usize) -> String {
    format!("# and {number} more (portguard stats)")
}

/// What is not in the list, and why.
pub(super) fn left_out(LeftOut { what, origin, why }: &LeftOut) -> String {
    format!("{} ({}): {}", shown(what), shown(origin), shown(why))
}

/// The entry that a proposal becomes.
pub(super) fn new_entry(Proposed { prefix, origins }: &Proposed) -> NewEntry {
    let comment = origins.iter().map(words).collect::<Vec<_>>().join("; ");
    NewEntry { prefix: *prefix, comment: Some(comment), conditions: Conditions::default() }
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
