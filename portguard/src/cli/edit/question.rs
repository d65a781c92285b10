//! The question after a list was edited that cannot be taken.

use std::io::{self, IsTerminal as _};

use crate::error::{Error, Result};
use crate::term;

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Edit,
    Discard,
    Show,
}

/// Shows what is wrong, and asks what to do; `None` if there is nobody to ask.
pub(super) fn ask(problem: &Error) -> Result<Option<Reply>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    term::error(problem);
    loop {
        eprint!("What now? (e)dit again, (d)iscard the changes, (s)how the errors again: ");
        let mut line = String::new();
        match stdin.read_line(&mut line) {
            // The end was typed, or the terminal has hung up.
            Ok(0) | Err(_) => {
                eprintln!();
                return Ok(None);
            }
            Ok(_) => {}
        }
        match line.trim() {
            "e" | "edit" => return Ok(Some(Reply::Edit)),
            "d" | "discard" => return Ok(Some(Reply::Discard)),
            "s" | "show" => return Ok(Some(Reply::Show)),
            _ => {}
        }
    }
}
