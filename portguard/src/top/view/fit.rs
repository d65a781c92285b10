//! Text in the room that there is. A number or an address of which a part is cut off reads as another one.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Marks a place where text was cut off.
const CUT: &str = "…";

/// The first of these texts that fits; the last one is cut if none does.
pub(super) fn fitting<const N: usize>(width: u16, texts: [String; N]) -> String {
    let mut last = String::new();
    for text in texts {
        if text.width() <= width.into() {
            return text;
        }
        last = text;
    }
    cut(&last, width)
}

/// A text with as many of its words as fit, and a mark if some do not. A word is cut only if it is the first one.
pub(super) fn cut(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(CUT.width());
    let mut end = 0;
    for (at, character) in text.char_indices() {
        let taken = character.width().unwrap_or_default();
        if taken > room {
            break;
        }
        room -= taken;
        end = at + character.len_utf8();
    }
    let kept = &text[..end];
    let is_within_word = !text[end..].starts_with(' ');
    let words = kept.rfind(' ').filter(|&at| is_within_word && !kept[..at].trim().is_empty());
    let kept = words.map_or(kept, |at| &kept[..=at]);
    if width < CUT.width() { String::new() } else { format!("{kept}{CUT}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_word_is_shown_behind_the_first_one() {
        for (width, text) in [
            (30, "in total 1000130 packets"),
            (24, "in total 1000130 packets"),
            (23, "in total 1000130 …"),
            (18, "in total 1000130 …"),
            (17, "in total 1000130…"),
            (16, "in total …"),
            (9, "in total…"),
            (2, "i…"),
            (1, "…"),
            (0, ""),
        ] {
            assert_eq!(cut("in total 1000130 packets", width), text, "{width}");
        }
        assert_eq!(cut("2001:db8:3::9", 9), "2001:db8…");
        assert_eq!(cut(" 名前名前", 4), " 名…");
    }

    #[test]
    fn the_first_text_that_fits_is_taken() {
        let texts = || ["a long text".to_owned(), "a text".to_owned(), "text".to_owned()];
        assert_eq!(fitting(11, texts()), "a long text");
        assert_eq!(fitting(10, texts()), "a text");
        assert_eq!(fitting(4, texts()), "text");
        assert_eq!(fitting(3, texts()), "te…");
    }
}
