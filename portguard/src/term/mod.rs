//! What portguard writes on standard error, and tables for standard output.

mod progress;
pub mod table;

use std::env;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use crate::allowlist::{Invalid, Style};
use crate::control::Severity;
use crate::error::Error;
use crate::ops::{Console, Message, Messages, Progress};
use crate::printable::lines;

/// The console of this process: its standard error.
#[derive(Debug)]
pub struct Stderr;

impl Console for Stderr {
    fn show(&self, message: &Message) {
        match message {
            Message::Data(text) | Message::ReportedListProblems(text) => eprint!("{}", lines(text)),
            Message::ListWarnings(warnings) => eprint!("{}", warnings.render(style_of(&io::stderr()))),
            Message::Note(text) => note(text),
            Message::Warning(text) => warning(text),
            Message::Error(failed) => error(failed),
            Message::ReportedError(text) => labelled(Severity::Error, text),
        }
    }

    fn progress(&self) -> Box<dyn Progress> {
        Box::<progress::Bar>::default()
    }
}

/// No messages yet; they are shown on standard error.
pub fn messages() -> Messages {
    Messages::new(Arc::new(Stderr))
}

/// Prints a failure, with the problems of the allowlist that it is about.
pub fn error(error: &Error) {
    if let Some(invalid) = Invalid::of(error) {
        eprint!("{}", invalid.render(style_of(&io::stderr())));
    }
    labelled(Severity::Error, &error.to_string());
}

/// Prints what the user must know: the guard is on, but something is not as it should be.
pub fn warning(text: &str) {
    labelled(Severity::Warning, text);
}

/// Prints what the user should know although nothing failed.
pub fn note(text: &str) {
    labelled(Severity::Note, text);
}

fn labelled(severity: Severity, text: &str) {
    let label = severity.key();
    let colour = match severity {
        Severity::Error => 31,
        Severity::Warning => 33,
        Severity::Note => 36,
    };
    let text = lines(text);
    match style_of(&io::stderr()) {
        Style::Coloured => eprintln!("\x1b[1;{colour}m{label}:\x1b[0m {text}"),
        Style::Plain => eprintln!("{label}: {text}"),
    }
}

/// Colour for a terminal whose user did not object by `NO_COLOR`, else plain text.
pub fn style_of(stream: &impl IsTerminal) -> Style {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !unwanted { Style::Coloured } else { Style::Plain }
}
