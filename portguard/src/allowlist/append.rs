//! Adds entries to the text of a list, of which every byte stays: its comments, its layout and its order.
//!
//! The new entries come behind the last one, in the form that the list has: each on lines of its own after `- `, or within the brackets.

use std::fmt::Write as _;

use ipnet::IpNet;
use serde_yaml::granit_parser::{self, Event, Parser, ScanError, Span, StructureStyle};

use super::{Allowlist, Checked, Entry};
use crate::error::{Error, Result};

/// What is to be added to a list, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addition {
    /// An entry.
    Entry(NewEntry),
    /// An entry that is commented out.
    CommentedOut(NewEntry),
    /// A comment, which is one line.
    Comment(String),
}

/// An entry that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its comment: one line, without characters that act on a terminal.
    pub comment: String,
}

impl NewEntry {
    /// Its two lines, without indentation.
    pub fn lines(&self) -> [String; 2] {
        [format!("prefix: {}", short(self.prefix)), format!("comment: {}", quoted(&self.comment))]
    }

    /// As a mapping between braces, which is JSON as well.
    fn mapping(&self) -> String {
        let comment = quoted(&self.comment);
        format!("{{\"prefix\": \"{}\", \"comment\": {comment}}}", short(self.prefix))
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
    /// The text of the list, with additions.
    ///
    /// # Errors
    /// The text would not be a list of the old entries and the new ones, such as one with too many entries.
    pub fn text_with(&self, additions: &[Addition]) -> Result<String> {
        let impossible = || Error::failed(format!("cannot add entries to {}", self.path.display()));
        let whole = str::from_utf8(&self.text).map_err(|error| impossible().caused_by(error))?;
        // A byte order mark is not counted in the places of the parser.
        let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
        if additions.is_empty() {
            return Ok(whole.to_owned());
        }
        let layout = Layout::of(text).map_err(|error| impossible().because(error))?;
        let layout = layout.ok_or_else(|| impossible().because("its entries were not found"))?;
        let mut added = whole[..whole.len() - text.len()].to_owned();
        let mut end = 0;
        for (at, more) in layout.insertions(text, additions) {
            added += &text[end..at];
            added += &more;
            end = at;
        }
        added += &text[end..];
        self.verify(&added, additions)?;
        Ok(added)
    }

    /// Whether a text is the list of this one's entries and of the additional ones, as everybody reads it who is given it.
    fn verify(&self, text: &str, additions: &[Addition]) -> Result<()> {
        let wrong = || {
            Error::failed(format!("cannot add entries to {}", self.path.display())).remedy(
                "Nothing was printed. Write the entries into the list by hand: portguard suggest names them.",
            )
        };
        let Checked { allowlist, .. } =
            Self::parse(&self.path, text.as_bytes()).map_err(|invalid| wrong().caused_by(*invalid))?;
        // A block scalar at the end of the file, without a line break, gets one.
        let old =
            |entry: &Entry| (entry.prefix, entry.comment().map(|it| it.trim_end_matches('\n').to_owned()));
        let new = additions.iter().filter_map(|addition| match addition {
            Addition::Entry(NewEntry { prefix, comment }) => Some((*prefix, Some(comment.clone()))),
            Addition::CommentedOut(_) | Addition::Comment(_) => None,
        });
        let expected = self.entries.iter().map(old).chain(new);
        if !allowlist.entries.iter().map(old).eq(expected) {
            return Err(wrong().because("the text would not hold the old entries and the new ones"));
        }
        Ok(())
    }
}

/// How the entries of a list are written, and where its last one ends.
#[derive(Debug)]
enum Layout {
    /// Each after `- `.
    Block {
        /// How far the dashes are indented.
        indentation: usize,
        /// Where the last entry ends.
        end: usize,
    },
    /// Between brackets.
    Flow {
        /// Where the last entry ends; the list is empty if there is none.
        end: Option<usize>,
        /// Behind the opening bracket.
        open: usize,
        /// In front of the closing one.
        close: usize,
    },
}

impl Layout {
    /// That of a valid list: its only sequence has the entries.
    fn of(text: &str) -> Result<Option<Self>, ScanError> {
        let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
        let (mut begun, mut key, mut end): (Option<(StructureStyle, usize)>, usize, Option<usize>) =
            (None, 0, None);
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event?;
            let place = offsets(&span);
            match event {
                Event::SequenceStart(style, ..) => begun = Some((style, place.1)),
                Event::SequenceEnd => {
                    let Some((style, open)) = begun else { return Ok(None) };
                    return Ok(Some(match style {
                        StructureStyle::Flow => Self::Flow { end, open, close: place.0 },
                        StructureStyle::Block => {
                            let indentation = dashes(text, open, key);
                            Self::Block { indentation, end: end.unwrap_or(open) }
                        }
                    }));
                }
                Event::Scalar(..) if begun.is_none() => key = place.0,
                // The end of a mapping without braces is where the next token is.
                Event::Scalar(..) => end = Some(place.1),
                Event::MappingEnd if place.0 < place.1 => end = Some(place.1),
                _ => {}
            }
        }
        Ok(None)
    }

    /// What is to be written where, in the order of the places.
    fn insertions(&self, text: &str, additions: &[Addition]) -> Vec<(usize, String)> {
        match *self {
            Self::Block { indentation, end } => vec![in_block(text, additions, indentation, end)],
            Self::Flow { end, open, close } => in_brackets(text, additions, end, open, close),
        }
    }
}

fn offsets(span: &Span) -> (usize, usize) {
    (span.start.byte_offset().unwrap_or_default(), span.end.byte_offset().unwrap_or_default())
}

/// How far the dashes are indented. `open` is the place of the first one; unless they are no further than their key, which is at `key`.
fn dashes(text: &str, open: usize, key: usize) -> usize {
    let is_dash =
        text[open..].strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\t', '\n', '\r']));
    let at = if is_dash { open } else { key };
    text[start_of_line(text, at)..at].chars().count()
}

fn start_of_line(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |newline| newline + 1)
}

/// Where the next line begins; none if this is the last one, and has no end.
fn next_line(text: &str, at: usize) -> Option<usize> {
    let newline = at + text[at..].find(['\n', '\r'])?;
    Some(newline + if text[newline..].starts_with("\r\n") { 2 } else { 1 })
}

/// How the lines of a text end.
fn newline(text: &str) -> &'static str {
    match text.find(['\n', '\r']) {
        Some(at) if text[at..].starts_with("\r\n") => "\r\n",
        Some(at) if text[at..].starts_with('\r') => "\r",
        _ => "\n",
    }
}

fn in_block(text: &str, additions: &[Addition], indentation: usize, end: usize) -> (usize, String) {
    let newline = newline(text);
    let blanks = " ".repeat(indentation);
    let at = after_comments(text, indentation, end);
    let mut more = String::new();
    if !text[..at].ends_with(['\n', '\r']) {
        more += newline;
    }
    for addition in additions {
        // Writing to a string does not fail.
        let _ = match addition {
            Addition::Entry(entry) => {
                let [prefix, comment] = entry.lines();
                write!(more, "{blanks}- {prefix}{newline}{blanks}  {comment}{newline}")
            }
            Addition::CommentedOut(entry) => {
                let [prefix, comment] = entry.lines();
                write!(more, "#{blanks}- {prefix}{newline}#{blanks}  {comment}{newline}")
            }
            Addition::Comment(comment) => write!(more, "{comment}{newline}"),
        };
    }
    (at, more)
}

/// The start of the line behind an entry, and behind the comments that follow it and are indented like the entries or further: they
/// belong to it, or to the list.
fn after_comments(text: &str, indentation: usize, end: usize) -> usize {
    let start = start_of_line(text, end);
    // A block scalar ends in the indentation of the line behind it.
    let mut at = match text[start..end].trim_matches([' ', '\t']).is_empty() {
        true => start,
        false => match next_line(text, end) {
            Some(next) => next,
            None => return text.len(),
        },
    };
    let mut line = at;
    while line < text.len() {
        let next = next_line(text, line).unwrap_or(text.len());
        let content = text[line..next].trim_start_matches([' ', '\t']);
        let is_indented = text[line..next].len() - content.len() >= indentation;
        match content.chars().next() {
            Some('#') if is_indented => at = next,
            None | Some('\n' | '\r') => {}
            Some(_) => break,
        }
        line = next;
    }
    at
}

fn in_brackets(
    text: &str,
    additions: &[Addition],
    end: Option<usize>,
    open: usize,
    close: usize,
) -> Vec<(usize, String)> {
    let newline = newline(text);
    let mut entries = Vec::new();
    // There is no place for comments between brackets in one line.
    let mut comments = String::new();
    for addition in additions {
        let _ = match addition {
            Addition::Entry(entry) => {
                entries.push(entry.mapping());
                Ok(())
            }
            Addition::CommentedOut(entry) => write!(comments, "#  {},{newline}", entry.mapping()),
            Addition::Comment(comment) => write!(comments, "{comment}{newline}"),
        };
    }
    let mut insertions = Vec::new();
    if !entries.is_empty() {
        let from = end.unwrap_or(open);
        let comma = end.and_then(|end| comma(text, end, close));
        if end.is_some() && comma.is_none() {
            insertions.push((from, ",".to_owned()));
        }
        let behind = comma.map_or(from, |comma| comma + 1);
        let bracket = start_of_line(text, close);
        if bracket > behind {
            // The closing bracket is on a line of its own.
            let of_the_last = start_of_line(text, from);
            let of_the_last = &text[of_the_last..from];
            let blanks = &of_the_last[..of_the_last.len() - of_the_last.trim_start_matches(' ').len()];
            let blanks = if end.is_some() && blanks.len() >= 2 { blanks } else { "  " };
            let last = if comma.is_some() { "," } else { "" };
            let lines = entries.join(&format!(",{newline}{blanks}"));
            insertions.push((bracket, format!("{blanks}{lines}{last}{newline}")));
        } else {
            let lines: Vec<String> = entries.iter().map(|entry| format!("{newline}  {entry}")).collect();
            insertions.push((behind, lines.join(",")));
        }
    }
    if !comments.is_empty() {
        let separator = if text.ends_with(['\n', '\r']) { "" } else { newline };
        insertions.push((text.len(), format!("{separator}{comments}")));
    }
    insertions
}

/// The comma between two places where there are blanks and comments beside it.
fn comma(text: &str, from: usize, to: usize) -> Option<usize> {
    let mut in_comment = false;
    for (at, character) in text[from..to].char_indices() {
        match character {
            '\n' | '\r' => in_comment = false,
            '#' => in_comment = true,
            ',' if !in_comment => return Some(from + at),
            _ => {}
        }
    }
    None
}
