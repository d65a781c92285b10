//! Names of interfaces as text. Linux accepts all bytes except `/`, `:` and white space in a name (`dev_valid_name`).
//! So a name may not be UTF-8, and may contain control sequences of a terminal.
//!
//! Such bytes are written as `\xNN`. Each text stands for exactly one name, and each name has one text. So names that
//! differ only in such bytes are distinct, and a name can be copied from any output to the command line.

use std::fmt::Write as _;

use crate::printable::is_misleading;

/// The text of a name.
pub(crate) fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let escape_bytes = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    let mut rest = name;
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let (this, behind) = rest.split_at(character.len_utf8());
            if is_unprintable(character) || escaped(rest).is_some() {
                escape_bytes(&mut text, this);
            } else {
                text.push(character);
            }
            rest = behind;
        }
        escape_bytes(&mut text, chunk.invalid());
        rest = rest.get(chunk.invalid().len()..).unwrap_or_default();
    }
    text
}

/// The name that a text stands for.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        match escaped(rest) {
            Some((byte, behind)) => {
                name.push(byte);
                rest = behind;
            }
            // A backslash that begins no escape is itself.
            None => {
                name.push(*first);
                rest = behind;
            }
        }
    }
    name
}

/// The byte that is written as `\xNN` at the start of the text, and the text after it.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'\\', b'x', high, low, behind @ ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = digit(high)? * 16 + digit(low)?;
    Some((u8::try_from(byte).ok()?, behind))
}

/// Whether a character would move the cursor, change colours, or hide or reorder others.
fn is_unprintable(character: char) -> bool {
    is_misleading(character) || character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_have_these_texts() {
        for (name, text) in [
            (&b"eth0"[..], "eth0"),
            ("größe0".as_bytes(), "größe0"),
            (b"\xff\xfe0", r"\xff\xfe0"),
            (b"B\xfcro", r"B\xfcro"),
            (b"a\x1b[2J", r"a\x1b[2J"),
            ("a\u{202e}b".as_bytes(), r"a\xe2\x80\xaeb"),
            // Backslashes are themselves, unless they look like the beginning of an escape.
            (br"a\b", r"a\b"),
            (br"\xff", r"\x5cxff"),
            (br"\x5cxff", r"\x5cx5cxff"),
            (b"\\\xff", r"\\xff"),
            (b"\\x\xff", r"\x\xff"),
            (b"\\xf\xff", r"\xf\xff"),
            (b"", ""),
        ] {
            assert_eq!(escape(name), text);
            assert_eq!(unescape(text), name, "{text}");
        }
        assert_eq!(unescape(r"\xFF\xfg\x"), b"\xff\\xfg\\x", "in capitals, and what is none");
    }

    proptest! {
        #[test]
        fn each_name_has_one_text(name in prop::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'x'), Just(b'f'), Just(b'5'), Just(b'c'), any::<u8>()], 0..12,
        )) {
            let text = escape(&name);
            prop_assert_eq!(unescape(&text), name, "{}", text);
            prop_assert!(!text.contains(is_unprintable));
        }
    }
}
