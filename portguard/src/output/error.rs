//! The one printer of errors.

use std::io;

use crate::allowlist::Style;
use crate::control::Severity;
use crate::error::Error;

/// Prints a failure to standard error, with the problems of the allowlist that it is about.
pub fn print(error: &Error) {
    if let Some(invalid) = error.allowlist() {
        eprint!("{}", invalid.render(Style::of(&io::stderr())));
    }
    eprintln!("{} {error}", label(Severity::Error));
}

/// Prints a failure that another process has reported.
pub fn reported(text: &str) {
    eprintln!("{} {text}", label(Severity::Error));
}

/// Prints what the user must know: the guard is on, but something is not as it should be.
pub fn warning(text: &str) {
    eprintln!("{} {text}", label(Severity::Warning));
}

/// Prints what the user should know although nothing failed.
pub fn note(text: &str) {
    eprintln!("{} {text}", label(Severity::Note));
}

fn label(severity: Severity) -> String {
    let word = severity.key();
    let colour = match severity {
        Severity::Error => 31,
        Severity::Warning => 33,
        Severity::Note => 36,
    };
    match Style::of(&io::stderr()) {
        Style::Coloured => format!("\x1b[1;{colour}m{word}:\x1b[0m"),
        Style::Plain => format!("{word}:"),
    }
}
