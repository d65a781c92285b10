//! The question on the terminal after `--confirm`: whether to keep the change.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::confirm::confirm;
use crate::cli::print::{finish, print_before, unwritten};
use crate::error::{Error, Result};
use crate::guard::{Confirmation, Due, Guard, PinRoot};
use crate::ops::trial::{self, lock_to_change};
use crate::term;

/// How often the question looks whether somebody else has answered it.
const POLL: Duration = Duration::from_millis(500);

/// A change that this command has put on trial.
#[derive(Debug)]
pub(in crate::cli) struct OnTrial {
    interface: String,
    token: u64,
}

impl OnTrial {
    /// The change that waits on an interface, if one does.
    pub(in crate::cli) fn on(pin_root: &PinRoot, name: &str) -> Option<Self> {
        let confirmation = trial::waiting(pin_root, name).ok().flatten()?;
        Some(Self { interface: name.to_owned(), token: confirmation.token })
    }

    /// How it is with it, if it still waits.
    fn waiting(&self, pin_root: &PinRoot) -> Option<Confirmation> {
        trial::waiting(pin_root, &self.interface).ok().flatten().filter(|it| it.token == self.token)
    }
}

/// What somebody at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Keep,
    Restore,
    /// The terminal is gone, or its end was typed.
    End,
    /// The time has passed, or the changes wait no more: somebody else has confirmed or restored them.
    Settled,
}

/// Asks whether to keep changes, if there is a terminal to ask on; `code` is the exit code of the command so far. What is
/// not confirmed is left to the guardian or to the service.
pub(in crate::cli) fn ask(
    pin_root: &PinRoot,
    changes: &[OnTrial],
    code: ExitCode,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let stdin = io::stdin();
    if changes.is_empty() || !stdin.is_terminal() || !io::stderr().is_terminal() {
        return Ok(code);
    }
    let names: Vec<String> = changes.iter().map(|change| change.interface.clone()).collect();
    let mut messages = term::messages();
    match reply(pin_root, changes)? {
        Reply::Keep => match confirm(pin_root, &names, &mut messages) {
            Ok(0) => finish(messages, out)
                .map(|confirmed| if confirmed == ExitCode::SUCCESS { code } else { confirmed }),
            Ok(failed) => messages.print(out).map_err(unwritten).map(|()| failed.into()),
            Err(error) => print_before(messages, out, error),
        },
        Reply::End => {
            term::note(&format!(
                "not confirmed: portguard restores the previous state unless you run: portguard confirm {}",
                names.join(" ")
            ));
            Ok(code)
        }
        Reply::Restore => {
            let _lock = lock_to_change(pin_root, &mut messages)?;
            changes
                .iter()
                .for_each(|change| trial::restore(pin_root, Due::Token(change.token), &mut messages));
            drop(_lock);
            print_before(messages, out, trial::not_confirmed(&names))
        }
        Reply::Settled => {
            // Unless the guardian or the service has done so.
            drop(lock_to_change(pin_root, &mut messages)?);
            if changes.iter().any(|change| change.waiting(pin_root).is_some()) {
                // It cannot be restored, and the messages tell why.
                return finish(messages, out);
            }
            let taken_back = |change: &&OnTrial| change.is_taken_back(pin_root);
            let names: Vec<String> =
                changes.iter().filter(taken_back).map(|change| change.interface.clone()).collect();
            if names.is_empty() {
                term::note("confirmed by another portguard");
                return finish(messages, out).map(|_| code);
            }
            print_before(messages, out, trial::not_confirmed(&names))
        }
    }
}

impl OnTrial {
    /// Whether what was before it is in force.
    fn is_taken_back(&self, pin_root: &PinRoot) -> bool {
        match Guard::by_name(Some(pin_root), &self.interface) {
            Ok(guard) => guard.confirmation().is_ok_and(|it| it.is_some_and(|it| it.token == self.token)),
            // It was a first attachment.
            Err(_) => true,
        }
    }
}

/// Asks until there is a reply.
fn reply(pin_root: &PinRoot, changes: &[OnTrial]) -> Result<Reply> {
    let stdin = io::stdin();
    let mut asked = false;
    loop {
        let waiting: Vec<Confirmation> =
            changes.iter().filter_map(|change| change.waiting(pin_root)).collect();
        let Some(remaining) = waiting.iter().map(|it| it.remaining).min().filter(|it| !it.is_zero()) else {
            if asked {
                eprintln!();
            }
            return Ok(Reply::Settled);
        };
        if !asked {
            eprint!("Keep this? Type yes and Enter within {} s: ", trial::seconds(remaining));
            asked = true;
        }
        let timeout = PollTimeout::try_from(remaining.min(POLL)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(cannot_ask().caused_by(io::Error::from(errno))),
        }
        let mut line = String::new();
        match stdin.read_line(&mut line) {
            // EIO: the terminal has hung up.
            Ok(0) | Err(_) => {
                eprintln!();
                return Ok(Reply::End);
            }
            Ok(_) => {}
        }
        match line.trim() {
            "yes" => return Ok(Reply::Keep),
            "no" => return Ok(Reply::Restore),
            _ => asked = false,
        }
    }
}

fn cannot_ask() -> Error {
    Error::failed("cannot read from the terminal")
}
