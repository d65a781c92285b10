//! The text of the file, and places in it.

use std::str;

use super::diagnostic::{Diagnostic, Place, Severity};

/// The most bytes of a line that are shown before the offending text, and from the start of that text on.
const CONTEXT: usize = 80;

/// The most bytes of the offending text that are shown.
const MAX_TEXT: usize = 160;

/// The characters that end a line in YAML.
const NEWLINES: [char; 2] = ['\n', '\r'];

/// Marks a place where text was cut off.
const CUT: &str = "…";

/// A place in the file. Its offsets fit into 32 bits: [`MAX_FILE_SIZE`](super::MAX_FILE_SIZE) is far below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The offset of its first byte.
    pub(super) start: u32,
    /// The offset of the first byte after it.
    pub(super) end: u32,
    /// The line; the first one is 1.
    pub(super) line: u32,
    /// The column in characters; the first one is 1.
    pub(super) column: u32,
}

/// The text of the file.
#[derive(Debug)]
pub(super) struct Source<'a> {
    text: &'a str,
}

impl<'a> Source<'a> {
    /// Takes `bytes` as UTF-8, with or without a byte order mark.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Box<Diagnostic>> {
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text: text.strip_prefix('\u{feff}').unwrap_or(text) }),
            Err(error) => Err(Box::new(not_utf8(bytes, error))),
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The place at `span`, with its excerpt of the file.
    pub(super) fn place(&self, span: Span) -> Place {
        place(self.text, span)
    }
}

fn place(text: &str, span: Span) -> Place {
    let start = boundary_before(text, span.start as usize);
    let end = boundary_after(text, span.end as usize).max(start);
    // The excerpt is not always the whole line: a line may be the whole file.
    let before = boundary_after(text, start.saturating_sub(CONTEXT));
    let after = boundary_before(text, start + CONTEXT).max(start);
    let line_start = text[before..start].rfind(NEWLINES).map(|newline| before + newline + 1);
    let line_end = text[start..after].find(NEWLINES).map(|newline| start + newline);
    let whole_left = line_start.is_some() || before == 0 || text[..before].ends_with(NEWLINES);
    let whole_right = line_end.is_some() || after == text.len() || text[after..].starts_with(NEWLINES);
    let sign = |whole: bool| if whole { "" } else { CUT };
    let (left, right) = (sign(whole_left), sign(whole_right));
    let (shown_start, shown_end) = (line_start.unwrap_or(before), line_end.unwrap_or(after));
    let excerpt = [left, &text[shown_start..shown_end], right].concat();
    let at = |offset: usize| offset.min(shown_end) - shown_start + left.len();
    Place {
        line: span.line,
        column: span.column,
        text: cut(&text[start..end], MAX_TEXT),
        excerpt,
        marked: at(start)..at(end),
    }
}

/// The last boundary between characters at or before `offset`.
fn boundary_before(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|offset| text.is_char_boundary(*offset)).unwrap_or(0)
}

/// The first boundary between characters at or after `offset`.
fn boundary_after(text: &str, offset: usize) -> usize {
    (offset..text.len()).find(|offset| text.is_char_boundary(*offset)).unwrap_or(text.len())
}

/// At most `max` bytes of `text`, and a mark if there are more.
pub(super) fn cut(text: &str, max: usize) -> String {
    let kept = &text[..boundary_before(text, max)];
    if kept.len() == text.len() { kept.to_owned() } else { format!("{kept}{CUT}") }
}

fn not_utf8(bytes: &[u8], error: str::Utf8Error) -> Diagnostic {
    let valid = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
    let line_start = valid.rfind('\n').map_or(0, |newline| newline + 1);
    let line = bytes[line_start..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    let column = valid[line_start..].chars().count();
    // Each invalid byte becomes one U+FFFD, so the text before the first one keeps its offsets.
    let shown = String::from_utf8_lossy(&line[..line.len().min(valid.len() - line_start + CONTEXT)]);
    let at = valid.len() - line_start;
    let bad = bytes[error.valid_up_to()];
    let span = Span {
        start: to_u32(at),
        end: to_u32(at + char::REPLACEMENT_CHARACTER.len_utf8()),
        line: to_u32(valid.matches('\n').count() + 1),
        column: to_u32(column + 1),
    };
    let mut place = place(&shown, span);
    place.text = format!("\\x{bad:02x}");
    Diagnostic {
        severity: Severity::Error,
        message: format!("the byte 0x{bad:02x} is not UTF-8"),
        help: Some(if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "the file is in UTF-16: save it as UTF-8, e.g. with `iconv -f UTF-16 -t UTF-8`".to_owned()
        } else {
            "save the file as UTF-8, e.g. with `iconv -f LATIN1 -t UTF-8`".to_owned()
        }),
        place: Some(place),
    }
}

/// An offset, line or column as 32 bits, which are enough for a file of permitted size.
pub(super) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
