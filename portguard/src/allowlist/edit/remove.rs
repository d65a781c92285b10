//! The text of a list without some of its entries.
//!
//! An entry goes with its lines and the comment at the end of its last line. Comments on lines of their own stay, also those above
//! it: they may be about several entries.

use super::layout::{
    Form, Item, Layout, comma, end_of_line, is_blank, is_dash, line_behind, next_line, start_of_line,
};

/// The text without these entries, which are numbers in ascending order. `None` if the place of one is not clear.
pub(super) fn from(text: &str, layout: Layout, numbers: Vec<usize>) -> Option<String> {
    let Layout { key_end, form, mut items, .. } = layout;
    let mut text = text.to_owned();
    // From the end on, so that the places of those in front stay.
    match form {
        Form::Block { dashes } => {
            for number in numbers.into_iter().rev() {
                cut_lines(&mut text, dashes, &items, number)?;
                items.remove(number);
            }
            if items.is_empty() {
                let colon = key_end + text[key_end..].find(':')?;
                text.insert_str(colon + 1, " []");
            }
        }
        Form::Flow { open, mut close } => {
            for number in numbers.into_iter().rev() {
                let before = text.len();
                cut_between(&mut text, open, close, &items, number);
                close -= before - text.len();
                items.remove(number);
            }
        }
    }
    Some(text)
}

/// Cuts out the lines of an entry after a dash.
fn cut_lines(text: &mut String, dashes: usize, items: &[Item], number: usize) -> Option<()> {
    let Item { start, end, .. } = items[number];
    let first = line_of_dash(text, dashes, start)?;
    let behind = line_behind(text, end).unwrap_or(text.len());
    text.replace_range(first..behind, "");
    // A comment that is indented far would become a part of a text that is open at its end.
    let open_before = number.checked_sub(1).is_some_and(|before| items[before].is_open);
    if open_before {
        indent_comments(text, first, dashes);
    }
    Some(())
}

/// The start of the line that has the dash of an entry, which begins at `start`. There is nothing in front of the dash.
fn line_of_dash(text: &str, dashes: usize, start: usize) -> Option<usize> {
    let mut line = start_of_line(text, start);
    loop {
        let blanks = text[line..].len() - text[line..].trim_start_matches(' ').len();
        if blanks == dashes && is_dash(&text[line + blanks..]) {
            return Some(line);
        }
        line = start_of_line(text, line.checked_sub(1)?);
    }
}

/// Indents the comments from a line on like the dashes, where they are indented further.
fn indent_comments(text: &mut String, mut line: usize, dashes: usize) {
    while line < text.len() {
        let content = text[line..].trim_start_matches([' ', '\t']);
        let indentation = text[line..].len() - content.len();
        match content.chars().next() {
            Some('#') if indentation > dashes => {
                text.replace_range(line..line + indentation, &" ".repeat(dashes));
            }
            Some('\n' | '\r') => {}
            // It ends that text.
            _ => return,
        }
        let Some(next) = next_line(text, line) else { return };
        line = next;
    }
}

/// Cuts out an entry between brackets, with one of the commas beside it.
fn cut_between(text: &mut String, open: usize, close: usize, items: &[Item], number: usize) {
    let Item { start, end, .. } = items[number];
    let is_last = number + 1 == items.len();
    let own_comma = comma(text, end, close);
    let before = number.checked_sub(1).map(|before| items[before].end);
    let comma_before = before.and_then(|before| comma(text, before, start));
    let end = own_comma.map_or(end, |comma| comma + 1);
    let line = start_of_line(text, start);
    let rest = text[end..end_of_line(text, end)].trim_start_matches([' ', '\t']);
    let ends_line = rest.is_empty() || rest.starts_with('#');
    let begins_line = line >= open && is_blank(&text[line..start]);
    // A comma in front of it separates nothing any more, and JSON has none there.
    let comma_goes = comma_before.filter(|_| is_last && own_comma.is_none());
    if begins_line && ends_line {
        let behind = next_line(text, end).unwrap_or(text.len());
        text.replace_range(line..behind, "");
    } else if is_last {
        let gap = comma_before.map_or(open, |comma| comma + 1);
        let begin = if text[gap..start].contains('#') { start } else { gap };
        text.replace_range(begin..end, "");
    } else {
        let blanks = &text[end..];
        let behind = end + blanks.len() - blanks.trim_start_matches([' ', '\t']).len();
        let begin = if rest.is_empty() { text[..start].trim_end_matches([' ', '\t']).len() } else { start };
        text.replace_range(begin..behind, "");
    }
    if let Some(comma) = comma_goes {
        text.replace_range(comma..comma + 1, "");
    }
}
