//! `portguard confirm`: keeps a change that is on trial; and the question on the terminal after `--confirm`.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::{Confirm, Guardian};
use crate::commands::{finish, print_before};
use crate::control;
use crate::error::{Error, Result};
use crate::guard::{self, Confirmation, Due, Guard, PinRoot};
use crate::ops::owner::owner_of;
use crate::ops::trial::{self, lock_to_change};
use crate::ops::{Messages, guardian};
use crate::output;

/// How often the question looks whether somebody else has answered it.
const POLL: Duration = Duration::from_millis(500);

/// Keeps the change of each of the interfaces, or all that wait.
///
/// # Errors
/// The process is not permitted, or no change waits; what goes wrong with one interface is printed.
pub fn run(args: &Confirm, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let mut messages = Messages::new();
    let confirmed = match &pin_root {
        Some(pin_root) => confirm(pin_root, &args.interfaces, &mut messages),
        None => Err(nothing_waits()),
    };
    match confirmed {
        Ok(0) => finish(messages, out),
        Ok(code) => messages.print(out).map(|()| code.into()),
        Err(error) => print_before(messages, out, error),
    }
}

/// The process that takes a change back.
///
/// # Errors
/// It cannot become a process of its own.
pub fn guardian(args: &Guardian) -> Result<ExitCode> {
    guardian::watch(args.token).map(|()| ExitCode::SUCCESS)
}

/// Returns the exit code of what was handed to services.
fn confirm(pin_root: &PinRoot, names: &[String], messages: &mut Messages) -> Result<u8> {
    let select = || -> Result<Vec<Result<Guard>>> {
        let mut guards = Guard::select(Some(pin_root), names)?;
        if names.is_empty() {
            let waits =
                |guard: &Guard| guard.confirmation().is_ok_and(|it| it.is_some_and(|it| it.is_in_force()));
            guards.retain(|guard| guard.as_ref().is_ok_and(waits));
        }
        Ok(guards)
    };
    let (mut by_hand, mut code) = (Vec::new(), 0);
    for guard in select()? {
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                messages.error(error);
                continue;
            }
        };
        let name = guard.interface().name.clone();
        let Some(service) = owner_of(guard.interface()) else {
            by_hand.push(name);
            continue;
        };
        match service.confirm(control::Confirm { interfaces: vec![name] }) {
            Ok(outcome) => {
                let failed = messages.take_outcome(outcome);
                code = if code == 0 { failed } else { code };
            }
            Err(error) => messages.error(error),
        }
    }
    if names.is_empty() && select()?.is_empty() && by_hand.is_empty() {
        return if code == 0 && messages.is_empty() { Err(nothing_waits()) } else { Ok(code) };
    }
    if !by_hand.is_empty() {
        let _lock = lock_to_change(pin_root, messages)?;
        for name in by_hand {
            let confirmed =
                Guard::by_name(Some(pin_root), &name).and_then(|guard| trial::confirm(&guard, messages));
            if let Err(error) = confirmed {
                messages.error(error);
            }
        }
    }
    Ok(code)
}

fn nothing_waits() -> Error {
    Error::failed("no change waits for its confirmation")
        .remedy("One that was not confirmed in time is not in force any more: portguard status")
}

/// A change that this command has put on trial.
#[derive(Debug)]
pub(super) struct OnTrial {
    interface: String,
    token: u64,
}

impl OnTrial {
    /// The change that waits on an interface, if one does.
    pub(super) fn on(pin_root: &PinRoot, name: &str) -> Option<Self> {
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
pub(super) fn ask(
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
    let mut messages = Messages::new();
    match reply(pin_root, changes)? {
        Reply::Keep => match confirm(pin_root, &names, &mut messages) {
            Ok(0) => finish(messages, out)
                .map(|confirmed| if confirmed == ExitCode::SUCCESS { code } else { confirmed }),
            Ok(failed) => messages.print(out).map(|()| failed.into()),
            Err(error) => print_before(messages, out, error),
        },
        Reply::End => {
            output::error::note(&format!(
                "not confirmed: what was before comes back, unless: portguard confirm {}",
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
                output::error::note("confirmed by another portguard");
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
            Err(errno) => return Err(cannot_ask(&errno.into())),
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

fn cannot_ask(error: &io::Error) -> Error {
    Error::failed("cannot read from the terminal").because(error)
}
