//! The one printer of errors.

use std::io;

use crate::allowlist::Style;
use crate::error::Error;

/// Prints a failure to standard error, with the problems of the allowlist that it is about.
pub fn print(error: &Error) {
    if let Some(invalid) = error.allowlist() {
        eprint!("{}", invalid.render(Style::of(&io::stderr())));
    }
    eprintln!("{} {error}", label("error", "31"));
}

/// Prints a failure that another process has reported.
pub fn reported(text: &str) {
    eprintln!("{} {text}", label("error", "31"));
}

/// Prints what the user must know: the guard is on, but something is not as it should be.
pub fn warning(text: &str) {
    eprintln!("{} {text}", label("warning", "33"));
}

/// Prints what the user should know although nothing failed.
pub fn note(text: &str) {
    eprintln!("{} {text}", label("note", "36"));
}

fn label(word: &str, colour: &str) -> String {
    match Style::of(&io::stderr()) {
        Style::Coloured => format!("\x1b[1;{colour}m{word}:\x1b[0m"),
        Style::Plain => format!("{word}:"),
    }
}
