//! How the entries of a list are written, and where each of them is.

use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle};

/// The key of the entries.
const KEY: &str = "allow";

/// Where the entries of a list are, in bytes of its text without a byte order mark.
#[derive(Debug)]
pub(super) struct Layout {
    /// Behind the key of the entries.
    pub(super) key_end: usize,
    /// How far that key is indented; `None` if it is between braces.
    pub(super) key_indentation: Option<usize>,
    /// The form of the entries.
    pub(super) form: Form,
    /// The entries in their order.
    pub(super) items: Vec<Item>,
}

/// The form that all entries of a list have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Each after `- `.
    Block {
        /// How far the dashes are indented.
        dashes: usize,
    },
    /// Between brackets.
    Flow {
        /// Behind the opening bracket.
        open: usize,
        /// In front of the closing one.
        close: usize,
    },
}

/// The place of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Its first byte, behind the dash.
    pub(super) start: usize,
    /// Behind its last byte. A block scalar ends at the start of a line.
    pub(super) end: usize,
    /// Whether its last value is a block scalar, which goes on in lines that are indented further.
    pub(super) is_open: bool,
}

impl Layout {
    /// That of a valid list; `None` if there are no entries, not even an empty list of them.
    pub(super) fn of(text: &str) -> Result<Option<Self>, ScanError> {
        let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
        // The level of the keys of the file is 1, and that of the entries is 2.
        let mut level = 0_usize;
        let (mut is_block, mut key, mut begun) = (true, None, None);
        let mut items: Vec<Item> = Vec::new();
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event?;
            let (start, end) = offsets(&span);
            let begins = level == 2 && begun.is_some();
            match &event {
                Event::Scalar(value, style, ..) => {
                    if level == 1 && begun.is_none() {
                        key = (value == KEY).then_some((start, end));
                    }
                    let is_open = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    match items.last_mut() {
                        _ if begins => items.push(Item { start, end, is_open }),
                        Some(item) if begun.is_some() => (item.end, item.is_open) = (end, is_open),
                        _ => {}
                    }
                }
                Event::MappingStart(style, ..) | Event::SequenceStart(style, ..) => {
                    if level == 0 {
                        is_block = *style == StructureStyle::Block;
                    }
                    if begins {
                        items.push(Item { start, end, is_open: false });
                    }
                    if level == 1 && begun.is_none() && matches!(event, Event::SequenceStart(..)) {
                        begun = key.map(|key| (*style, key, start, end));
                    }
                    level += 1;
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    level = level.saturating_sub(1);
                    if level == 1
                        && let Some((style, (key, key_end), first, open)) = begun
                    {
                        let form = match style {
                            StructureStyle::Flow => Form::Flow { open, close: start },
                            StructureStyle::Block => Form::Block { dashes: dashes(text, first, key) },
                        };
                        let key_indentation = is_block.then(|| column(text, key));
                        items.iter_mut().for_each(|item| item.end = without_indentation(text, item.end));
                        return Ok(Some(Self { key_end, key_indentation, form, items }));
                    }
                    // The end of what has no braces is where the next token is.
                    if let Some(item) = items.last_mut().filter(|_| start < end) {
                        (item.end, item.is_open) = (end, false);
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The end of an entry: the parser has the end of a block scalar in the indentation of the line behind it.
fn without_indentation(text: &str, end: usize) -> usize {
    let line = start_of_line(text, end);
    if is_blank(&text[line..end]) { line } else { end }
}

fn offsets(span: &Span) -> (usize, usize) {
    (span.start.byte_offset().unwrap_or_default(), span.end.byte_offset().unwrap_or_default())
}

/// How far the dashes are indented. `first` is the place of the first one; unless they are no further than their key, which is at `key`.
fn dashes(text: &str, first: usize, key: usize) -> usize {
    column(text, if is_dash(&text[first..]) { first } else { key })
}

fn column(text: &str, at: usize) -> usize {
    text[start_of_line(text, at)..at].chars().count()
}

/// Whether a text begins with the dash of an entry.
pub(super) fn is_dash(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

/// Whether a text has nothing but blanks.
pub(super) fn is_blank(text: &str) -> bool {
    text.trim_matches([' ', '\t']).is_empty()
}

pub(super) fn start_of_line(text: &str, at: usize) -> usize {
    text[..at].rfind(['\n', '\r']).map_or(0, |newline| newline + 1)
}

/// Where the line ends, in front of its line break.
pub(super) fn end_of_line(text: &str, at: usize) -> usize {
    text[at..].find(['\n', '\r']).map_or(text.len(), |newline| at + newline)
}

/// Where the next line begins; none if this is the last one, and has no end.
pub(super) fn next_line(text: &str, at: usize) -> Option<usize> {
    let newline = at + text[at..].find(['\n', '\r'])?;
    Some(newline + if text[newline..].starts_with("\r\n") { 2 } else { 1 })
}

/// How the lines of a text end.
pub(super) fn newline(text: &str) -> &'static str {
    match text.find(['\n', '\r']) {
        Some(at) if text[at..].starts_with("\r\n") => "\r\n",
        Some(at) if text[at..].starts_with('\r') => "\r",
        _ => "\n",
    }
}

/// The start of the line behind an entry that ends at `end`; `None` if the file ends there, without a line break.
pub(super) fn line_behind(text: &str, end: usize) -> Option<usize> {
    if start_of_line(text, end) == end { Some(end) } else { next_line(text, end) }
}

/// The comma between two places where there are blanks and comments beside it.
pub(super) fn comma(text: &str, from: usize, to: usize) -> Option<usize> {
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
