//! Text of others, safe to show: on a terminal, and to a reader.
//!
//! What others have written (names, comments, paths, replies of servers) may contain characters that act on a terminal,
//! reorder or hide text. Where portguard puts such text into a sentence, it takes [`printable`]. Whatever is printed passes
//! [`lines`] at last, and JSON passes [`Json`], so that no foreign string gets through that was forgotten.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

/// Whether a character acts on a terminal, or misleads a reader: control characters (C0, DEL, C1), line and paragraph separators, and
/// the characters with the property `Default_Ignorable_Code_Point` (Unicode, DerivedCoreProperties.txt), which includes those that
/// change the direction of text (UAX #9).
pub(crate) fn is_misleading(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` in one line, with escapes such as `\n` and `\u{200b}` for characters that mislead.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, is_misleading)
}

/// `text` with its lines, and with escapes for all other characters that mislead.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |character| character != '\n' && is_misleading(character))
}

fn escaped(text: &str, must_be: impl Fn(char) -> bool) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            character if !must_be(character) => escaped.push(character),
            '\0' | '\n' | '\r' | '\t' => escaped.extend(character.escape_debug()),
            character => escaped.extend(character.escape_unicode()),
        }
        escaped
    })
}

/// A number with its noun: `1 packet`, `2 packets`, `2 entries`, `2 days`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o']) => format!("{number} {stem}ies"),
        _ if noun.ends_with('x') => format!("{number} {noun}es"),
        _ => format!("{number} {noun}s"),
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''")).into()
}

/// A path as text: bytes that are not UTF-8 are written as `\xNN`. So two paths differ in their texts.
pub(crate) fn path(path: &Path) -> String {
    path.as_os_str().as_bytes().utf8_chunks().fold(String::new(), |mut text, chunk| {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
        text
    })
}

/// Serializes a path as [`path`] writes it: a document is whole whatever bytes a path has.
pub(crate) fn serialize_path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&self::path(path))
}

/// Writes JSON whose strings have escapes for characters that mislead. The strings mean the same (RFC 8259, section 7).
#[derive(Debug)]
pub(crate) struct Json;

impl Formatter for Json {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_misleading(*character))
        {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use proptest::prelude::*;
    use serde::Serialize as _;

    use super::*;

    /// One of each kind: C0, DEL, C1, a separator, bidi, zero width, a byte order mark, a variation selector, a tag, a filler.
    const MISLEADING: &str =
        "\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}\u{200b}\u{feff}\u{fe0f}\u{e0041}\u{3164}\u{ad}";

    #[test]
    fn whatever_misleads_is_written_as_an_escape() {
        assert!(MISLEADING.chars().all(is_misleading));
        assert_eq!(
            printable(MISLEADING),
            r"\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}\u{200b}\u{feff}\u{fe0f}\u{e0041}\u{3164}\u{ad}"
        );
        assert_eq!(printable("größe\t1\r\n名 \\u{1b}"), r"größe\t1\r\n名 \u{1b}");
        assert_eq!(lines("a\tb\nc\u{1b}[2J\n"), "a\\tb\nc\\u{1b}[2J\n");
    }

    #[test]
    fn paths_of_any_bytes_have_a_text() {
        assert_eq!(path(Path::new("/etc/größe")), "/etc/größe");
        assert_eq!(path(Path::new(OsStr::from_bytes(b"/tmp/\xff/\xe4\xb8x"))), r"/tmp/\xff/\xe4\xb8x");
    }

    #[test]
    fn a_shell_takes_a_quoted_word_for_what_it_was() {
        for word in ["eth0", "/etc/a b.yaml", "it's", "", "$(id)", "*", "a\\b", "'"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn one_is_not_many() {
        let all = [
            counted(0, "entry"),
            counted(1, "entry"),
            counted(2, "entry"),
            counted(1, "packet"),
            counted(3, "packet"),
            counted(1, "prefix"),
            counted(2, "prefix"),
        ];
        let expected =
            ["0 entries", "1 entry", "2 entries", "1 packet", "3 packets", "1 prefix", "2 prefixes"];
        assert_eq!(all, expected);
    }

    proptest! {
        #[test]
        fn json_is_the_same_value_without_characters_that_mislead(text in ".*", more in prop::sample::subsequence(
            MISLEADING.chars().collect::<Vec<_>>(), 0..8)) {
            let text = text + &more.into_iter().collect::<String>() + "\\\"";
            let mut json = Vec::new();
            text.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Json)).unwrap();
            let json = String::from_utf8(json).unwrap();
            prop_assert!(!json.contains(is_misleading), "{json}");
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
