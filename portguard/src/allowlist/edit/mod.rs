//! Changes the text of a list: entries are added and taken out, and each other byte stays, its comments, its layout and its order.
//!
//! `layout.rs` finds the entries in the text, `append.rs` and `remove.rs` change it, and `replace_file.rs` puts the new text in the
//! place of the file. A changed text is read again before anybody gets it: it holds exactly the expected entries, or it is an
//! error.

mod append;
mod attributes;
mod layout;
mod remove;
mod replace_file;

use std::collections::HashSet;
use std::fmt::Write as _;

use ipnet::IpNet;

use self::layout::Layout;
use super::{Allowlist, Checked, Entry, MAX_FILE_SIZE};
use crate::error::{Error, Result};

pub use self::append::Addition;
pub use self::replace_file::{ListFile, LockedListFile};

/// An entry that is to be added. Conditions of an entry are further fields here, and further lines of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its comment: one line, without characters that act on a terminal.
    pub comment: Option<String>,
}

impl NewEntry {
    /// The entry as lines of a list, each of which begins with `before`.
    pub fn block(&self, before: &str, newline: &str) -> String {
        let mut text = String::new();
        let mut sign = '-';
        let mut line = |content: String| {
            // Writing to a string does not fail.
            let _ = write!(text, "{before}{sign} {content}{newline}");
            sign = ' ';
        };
        let Self { prefix, comment } = self;
        match comment {
            None => line(short(*prefix)),
            Some(comment) => {
                line(format!("prefix: {}", short(*prefix)));
                line(format!("comment: {}", quoted(comment)));
            }
        }
        text
    }

    /// The entry between brackets, which is JSON as well.
    fn flow(&self) -> String {
        let Self { prefix, comment } = self;
        let prefix = short(*prefix);
        match comment {
            None => format!("\"{prefix}\""),
            Some(comment) => format!("{{\"prefix\": \"{prefix}\", \"comment\": {}}}", quoted(comment)),
        }
    }

    /// What is to be read of it in the end.
    fn content(&self) -> Content<'_> {
        Content { prefix: self.prefix, comment: self.comment.as_deref() }
    }
}

/// What an entry says, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content<'a> {
    prefix: IpNet,
    comment: Option<&'a str>,
}

impl<'a> From<&'a Entry> for Content<'a> {
    fn from(entry: &'a Entry) -> Self {
        // A block scalar at the end of the file, without a line break, gets one.
        Self { prefix: entry.prefix, comment: entry.comment().map(|it| it.trim_end_matches('\n')) }
    }
}

/// A prefix; a single address without its length, unless YAML would take the colon at its end for one of its own.
pub fn short(prefix: IpNet) -> String {
    let address = prefix.addr().to_string();
    if prefix.prefix_len() == prefix.max_prefix_len() && !address.ends_with(':') {
        address
    } else {
        prefix.to_string()
    }
}

/// A text of one line as a scalar of YAML in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Allowlist {
    /// The list with additions.
    ///
    /// # Errors
    /// The text would not be a list of the old entries and the new ones, such as one with too many entries.
    pub fn with(&self, additions: &[Addition]) -> Result<Checked> {
        let new = additions.iter().filter_map(|addition| match addition {
            Addition::Entry(entry) => Some(entry.content()),
            Addition::CommentedOut(_) | Addition::Comment(_) => None,
        });
        let expected = self.entries.iter().map(Content::from).chain(new);
        self.edited("cannot add entries to", expected, |text, layout| {
            Some(append::to(text, &layout, additions))
        })
    }

    /// The list without the entries that have one of these prefixes.
    ///
    /// # Errors
    /// The text would not be a list of the other entries.
    pub fn without(&self, prefixes: &[IpNet]) -> Result<Checked> {
        let prefixes: HashSet<IpNet> = prefixes.iter().copied().collect();
        let goes = |entry: &Entry| prefixes.contains(&entry.prefix);
        let expected = self.entries.iter().filter(|entry| !goes(entry)).map(Content::from);
        self.edited("cannot take entries out of", expected, |text, layout| {
            // One item is one entry.
            let same = layout.items.len() == self.entries.len();
            let going = self.entries.iter().enumerate().filter(|(_, entry)| goes(entry));
            same.then(|| remove::from(text, layout, going.map(|(number, _)| number).collect()))?
        })
    }

    /// The list with a changed text, which holds the expected entries.
    fn edited<'a>(
        &self,
        what: &str,
        mut expected: impl Iterator<Item = Content<'a>>,
        edit: impl FnOnce(&str, Layout) -> Option<String>,
    ) -> Result<Checked> {
        let failed = || {
            Error::failed(format!("{what} {}", self.path.display()))
                .remedy("Nothing was changed. Change the list by hand: portguard edit")
        };
        let whole = str::from_utf8(&self.text).map_err(|error| failed().caused_by(error))?;
        // A byte order mark is not counted in the places of the parser.
        let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
        let layout = Layout::of(text).map_err(|error| failed().because(error))?;
        let layout = layout.ok_or_else(|| failed().because("its entries were not found"))?;
        let edited = edit(text, layout).ok_or_else(|| failed().because("it is written in an unusual way"))?;
        let edited = whole[..whole.len() - text.len()].to_owned() + &edited;
        if edited.len() as u64 > MAX_FILE_SIZE {
            return Err(failed().because(format!("it would be larger than {} MiB", MAX_FILE_SIZE >> 20)));
        }
        let checked =
            Self::parse(&self.path, edited.as_bytes()).map_err(|invalid| failed().caused_by(*invalid))?;
        let mut found = checked.allowlist.entries.iter();
        let is_next = |content| found.next().is_some_and(|entry| Content::from(entry) == content);
        let is_other = checked.allowlist.udp_calls != self.udp_calls;
        if is_other || !expected.all(is_next) || found.next().is_some() {
            return Err(failed().because("the text would not say what it should"));
        }
        Ok(checked)
    }
}
