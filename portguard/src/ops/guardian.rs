//! The guardian of a change on trial: a process that takes the change back if it is not confirmed.
//!
//! The command starts it before the change, in a session of its own, so that it outlives the command and its terminal. A
//! socket connects both. The end of that connection means that all changes are made: the command closes it, or was
//! killed. The record of the change, which is pinned with the guard, has the deadline and the state to restore.
//!
//! On SIGTERM, the guardian takes the change back at once. The signal comes at a shutdown, or at the end of a login
//! session with `KillUserProcesses=yes`, and there may be no guardian any more at the deadline.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, dup2_stdin, fork, setsid};

use crate::error::{Error, Result};
use crate::guard::{self, Due, PinRoot, Trial};
use crate::ops::trial::{lock_to_change, restore};
use crate::ops::{Console, Messages};

/// The verb of the process.
pub(crate) const VERB: &str = "guardian";
/// The longest time until a guardian is ready.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The interval at which a guardian checks whether the change still waits.
const POLL: Duration = Duration::from_secs(1);
/// The message of a guardian that is ready.
const READY: [u8; 1] = [b'R'];

/// A guardian that is ready. It begins to watch when this is dropped.
#[derive(Debug)]
#[must_use = "it watches as soon as this is dropped"]
pub(crate) struct Guardian(UnixStream);

impl Guardian {
    /// Starts a guardian before a change.
    ///
    /// # Errors
    /// The guardian cannot be started, or is not ready in time.
    pub(crate) fn start(trial: Trial) -> Result<Self> {
        Self::spawn(trial).map_err(|error| {
            Error::failed("cannot start the process that restores the previous state")
                .caused_by(error)
                .remedy("Nothing was changed.")
        })
    }

    fn spawn(trial: Trial) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(START_LIMIT))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("portguard").args([VERB, &trial.token.to_string()]).current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
        unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
        // The process forks, so that the guardian is no child of the command, and no leader of a session, which could
        // get a terminal.
        let started = command.spawn()?.wait()?;
        // After this, the other end is open in the guardian only.
        drop(command);
        let mut ready = [0; READY.len()];
        ours.read_exact(&mut ready).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other(format!("it has ended ({started})")),
            _ => error,
        })?;
        Ok(Self(ours))
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // After an error, the socket is closed on drop.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Set when the guardian gets SIGTERM.
static ENDS: AtomicBool = AtomicBool::new(false);

extern "C" fn end(_: libc::c_int) {
    ENDS.store(true, Ordering::Relaxed);
}

/// The guardian itself. It waits until the change with this token is made, and then until it is confirmed or due. It
/// returns when no change with this token waits any more.
///
/// # Errors
/// The process cannot fork, or cannot set itself up.
pub(crate) fn watch(token: u64, console: &Arc<dyn Console>) -> Result<()> {
    let failed = |error: io::Error| Error::failed("cannot watch over a change").caused_by(error);
    // SAFETY: there is no other thread yet.
    match unsafe { fork() }.map_err(|errno| failed(errno.into()))? {
        ForkResult::Parent { .. } => return Ok(()),
        ForkResult::Child => {}
    }
    close_inherited().map_err(failed)?;
    // SAFETY: the handler stores one atomic, which any signal handler may do.
    unsafe { signal(Signal::SIGTERM, SigHandler::Handler(end)) }.map_err(|errno| failed(errno.into()))?;
    await_changes().map_err(failed)?;
    loop {
        let pin_root = PinRoot::find();
        let next = match &pin_root {
            Ok(Some(pin_root)) => guard::next_deadline(pin_root, Some(token)),
            // There are no guards any more.
            Ok(None) => return Ok(()),
            Err(_) => Ok(Some(POLL)),
        };
        match next {
            Ok(None) => return Ok(()),
            Ok(Some(remaining)) if !remaining.is_zero() && !ENDS.load(Ordering::Relaxed) => {
                thread::sleep(remaining.min(POLL));
            }
            Ok(Some(_)) => {
                if take_back(pin_root, token, console).is_err() {
                    thread::sleep(POLL);
                }
            }
            // Another process may be changing guards.
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Fails if the change is still in force.
fn take_back(pin_root: Result<Option<PinRoot>>, token: u64, console: &Arc<dyn Console>) -> Result<()> {
    let Some(pin_root) = pin_root? else { return Ok(()) };
    let mut messages = Messages::new(Arc::clone(console));
    let _lock = lock_to_change(&pin_root, &mut messages)?;
    let due = if ENDS.load(Ordering::Relaxed) { Due::Token(token) } else { Due::Overdue };
    restore(&pin_root, due, &mut messages);
    // There is no user to show the messages to.
    match messages.first_failure() {
        Some(_) => Err(Error::failed("the change is still in force")),
        None => Ok(()),
    }
}

/// Sends [`READY`], and waits until the command has made its changes, or was killed.
fn await_changes() -> io::Result<()> {
    let mut line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(fs::File::open("/dev/null")?)?;
    line.write_all(&READY)?;
    loop {
        match line.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The cause does not matter: the record shows what to do.
            _ => return Ok(()),
        }
    }
}

/// Closes all inherited descriptors, except the standard streams.
fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process uses a descriptor above the standard streams yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
