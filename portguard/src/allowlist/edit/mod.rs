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
use super::{Allowlist, Checked, Conditions, Entry, InterfacePattern, MAX_FILE_SIZE};
use crate::error::{Error, Result};

pub use self::append::Addition;
pub use self::replace_file::{ListFile, LockedListFile};

/// An entry that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its comment: one line, without characters that act on a terminal.
    pub comment: Option<String>,
    /// Its conditions.
    pub conditions: Conditions,
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
        if self.is_long() {
            for (key, value) in self.values() {
                line(format!("{key}: {}", value.in_block()));
            }
        } else {
            line(short(self.prefix));
        }
        text
    }

    /// The entry between brackets, which is JSON as well.
    fn flow(&self) -> String {
        if !self.is_long() {
            return format!("\"{}\"", short(self.prefix));
        }
        let values = self.values();
        let values: Vec<String> =
            values.into_iter().map(|(key, value)| format!("\"{key}\": {}", value.in_brackets())).collect();
        format!("{{{}}}", values.join(", "))
    }

    /// Whether it takes more than its prefix.
    fn is_long(&self) -> bool {
        self.comment.is_some() || !self.conditions.is_empty()
    }

    /// Its keys and their values.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let Self { prefix, comment, conditions } = self;
        let Conditions { interfaces, until, udp, rate } = conditions;
        let names = |interfaces: &[InterfacePattern]| {
            Value::Names(interfaces.iter().map(|it| it.as_str().to_owned()).collect())
        };
        let mut values = vec![("prefix", Value::Plain(short(*prefix)))];
        values.extend(comment.as_ref().map(|comment| ("comment", Value::Quoted(comment.clone()))));
        values.extend(interfaces.as_deref().map(|interfaces| ("interfaces", names(interfaces))));
        values.extend(until.map(|until| ("until", Value::Plain(until.to_string()))));
        values.extend(udp.map(|udp| ("udp", Value::Plain(udp.key().to_owned()))));
        values.extend(rate.map(|rate| ("rate", Value::Plain(format!("{rate}/s")))));
        values
    }

    /// What is to be read of it in the end.
    fn content(&self) -> Content<'_> {
        let conditions = Some(&self.conditions).filter(|it| !it.is_empty());
        Content { prefix: self.prefix, comment: self.comment.as_deref(), conditions }
    }
}

/// The value of a key of an entry.
enum Value {
    /// A text that is itself without quotes in a block.
    Plain(String),
    /// Any other text of one line.
    Quoted(String),
    /// Names of interfaces.
    Names(Vec<String>),
}

impl Value {
    /// As it stands behind the key on a line.
    fn in_block(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Quoted(text) => quoted(text),
            Self::Names(names) => format!("[{}]", listed(names, unquoted)),
        }
    }

    /// As it stands between braces, in JSON as well.
    fn in_brackets(&self) -> String {
        match self {
            Self::Plain(text) | Self::Quoted(text) => quoted(text),
            Self::Names(names) => format!("[{}]", listed(names, quoted)),
        }
    }
}

fn listed(names: &[String], written: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| written(name)).collect::<Vec<_>>().join(", ")
}

/// A name, in quotes unless it looks like `eth0`: whatever else has a meaning in YAML has no digit, or does not begin with a letter.
fn unquoted(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.contains(|it: char| it.is_ascii_digit())
        && name.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'));
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// What an entry says, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content<'a> {
    prefix: IpNet,
    comment: Option<&'a str>,
    conditions: Option<&'a Conditions>,
}

impl<'a> From<&'a Entry> for Content<'a> {
    fn from(entry: &'a Entry) -> Self {
        // A block scalar at the end of the file, without a line break, gets one.
        let comment = entry.comment().map(|it| it.trim_end_matches('\n'));
        Self { prefix: entry.prefix, comment, conditions: entry.conditions() }
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
