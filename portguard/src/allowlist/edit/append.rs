//! The text of a list with further entries.
//!
//! The new entries come behind the last one, in the form that the list has: each on lines of its own after `- `, or within the brackets.
//! The brackets of an empty list go, if its key is on a line of its own, so that nobody has to write within them from then on.

use std::fmt::Write as _;
use std::ops::Range;

use super::NewEntry;
use super::layout::{
    Form, Layout, comma, end_of_line, is_blank, line_behind, newline, next_line, start_of_line,
};

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

/// What comes in the place of a range of the text.
type Edit = (Range<usize>, String);

/// The text with additions.
pub(super) fn to(text: &str, layout: &Layout, additions: &[Addition]) -> String {
    let mut added = String::with_capacity(text.len());
    let mut end = 0;
    for (Range { start, end: behind }, more) in edits(text, layout, additions) {
        added += &text[end..start];
        added += &more;
        end = behind;
    }
    added + &text[end..]
}

/// What is to be written where, in the order of the places.
fn edits(text: &str, layout: &Layout, additions: &[Addition]) -> Vec<Edit> {
    let end = layout.items.last().map(|item| item.end);
    let has_entries = additions.iter().any(|addition| matches!(addition, Addition::Entry(_)));
    match layout.form {
        _ if additions.is_empty() => Vec::new(),
        Form::Block { dashes } => vec![in_block(text, additions, dashes, end.unwrap_or(layout.key_end))],
        Form::Flow { open, close } => match empty_brackets(text, layout, open, close) {
            Some((indentation, brackets)) if has_entries => {
                let end = brackets.end;
                vec![(brackets, String::new()), in_block(text, additions, indentation + 2, end)]
            }
            _ => in_brackets(text, additions, end, open, close),
        },
    }
}

/// The brackets of an empty list, with the blanks in front of them, and the indentation of its key, if both are all of a line.
fn empty_brackets(text: &str, layout: &Layout, open: usize, close: usize) -> Option<(usize, Range<usize>)> {
    let indentation = layout.key_indentation?;
    let key = &text[layout.key_end..open];
    let colon = key.find(':')?;
    let behind = text[close + 1..end_of_line(text, close)].trim_start_matches([' ', '\t']);
    let is_alone = is_blank(&key[..colon])
        && is_blank(key[colon + 1..].strip_suffix('[')?)
        && open == close
        && (behind.is_empty() || behind.starts_with('#'));
    is_alone.then(|| (indentation, layout.key_end + colon + 1..close + 1))
}

fn in_block(text: &str, additions: &[Addition], indentation: usize, end: usize) -> Edit {
    let newline = newline(text);
    let blanks = " ".repeat(indentation);
    let at = after_comments(text, indentation, end);
    let mut more = String::new();
    if !text[..at].ends_with(['\n', '\r']) {
        more += newline;
    }
    for addition in additions {
        more += &match addition {
            Addition::Entry(entry) => entry.block(&blanks, newline),
            Addition::CommentedOut(entry) => entry.block(&format!("#{blanks}"), newline),
            Addition::Comment(comment) => format!("{comment}{newline}"),
        };
    }
    (at..at, more)
}

/// The start of the line behind an entry, and behind the comments that follow it and are indented like the entries or further: they
/// belong to it, or to the list.
fn after_comments(text: &str, indentation: usize, end: usize) -> usize {
    let Some(mut at) = line_behind(text, end) else { return text.len() };
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
) -> Vec<Edit> {
    let newline = newline(text);
    let mut entries = Vec::new();
    // There is no place for comments between brackets in one line.
    let mut comments = String::new();
    for addition in additions {
        // Writing to a string does not fail.
        let _ = match addition {
            Addition::Entry(entry) => {
                entries.push(entry);
                Ok(())
            }
            Addition::CommentedOut(entry) => write!(comments, "#  {},{newline}", entry.flow()),
            Addition::Comment(comment) => write!(comments, "{comment}{newline}"),
        };
    }
    let mut edits = Vec::new();
    if !entries.is_empty() {
        let from = end.unwrap_or(open);
        let comma = end.and_then(|end| comma(text, end, close));
        if end.is_some() && comma.is_none() {
            edits.push((from..from, ",".to_owned()));
        }
        let behind = comma.map_or(from, |comma| comma + 1);
        let last = if comma.is_some() { "," } else { "" };
        let bracket = start_of_line(text, close);
        if bracket > behind {
            // The closing bracket is on a line of its own.
            let of_the_last = start_of_line(text, from);
            let of_the_last = &text[of_the_last..from];
            let blanks = &of_the_last[..of_the_last.len() - of_the_last.trim_start_matches(' ').len()];
            let blanks = if end.is_some() && blanks.len() >= 2 { blanks } else { "  " };
            let lines: Vec<String> = entries.iter().map(|entry| entry.flow()).collect();
            let lines = lines.join(&format!(",{newline}{blanks}"));
            edits.push((bracket..bracket, format!("{blanks}{lines}{last}{newline}")));
        } else {
            let mut more = String::new();
            for (number, entry) in entries.iter().enumerate() {
                let is_first = number == 0;
                let gap = match entry.is_long() {
                    true => format!("{newline}  "),
                    false if is_first && end.is_none() => String::new(),
                    false => " ".to_owned(),
                };
                let _ = write!(more, "{}{gap}{}", if is_first { "" } else { "," }, entry.flow());
            }
            edits.push((behind..behind, more + last));
        }
    }
    if !comments.is_empty() {
        let separator = if text.ends_with(['\n', '\r']) { "" } else { newline };
        edits.push((text.len()..text.len(), format!("{separator}{comments}")));
    }
    edits
}
