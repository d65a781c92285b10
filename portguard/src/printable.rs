//! Text of others, safe to show on a terminal.

/// `text` without characters that would move the cursor, change colours or hide something.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut printable, character| {
        if character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            printable.extend(character.escape_debug());
        } else {
            printable.push(character);
        }
        printable
    })
}
