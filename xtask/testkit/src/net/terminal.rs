//! A terminal for a program: a pseudo-terminal, and an emulator that knows what a user would see on it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::{Pid, setsid};

use super::process::wait_until;

/// How often a reader without anything to read looks whether it is still wanted.
const LOOK: u16 = 20;
/// How often the end of the program is looked for.
const POLL: Duration = Duration::from_millis(5);

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many characters are in a row.
    pub columns: u16,
    /// How many rows there are.
    pub rows: u16,
}

/// A program in a terminal of its own. It is killed and reaped on drop.
pub struct Terminal {
    child: Child,
    ours: File,
    // Kept open so that its settings can be read when the program has ended.
    theirs: File,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").field("program", &self.child.id()).finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts a program as the leader of the session of a new terminal, which is an `xterm-256color`. The kernel kills it
    /// when the thread that started it ends.
    pub fn spawn(command: &mut Command, size: Size) -> Result<Self> {
        let (ours, theirs) = pair().context("cannot make a pseudo-terminal")?;
        set_size(&ours, size)?;
        let before = tcgetattr(&theirs).context("cannot read the settings of a terminal")?;
        let end = || theirs.try_clone();
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        command.env("TERM", "xterm-256color").env_remove("COLUMNS").env_remove("LINES");
        // SAFETY: the hook runs between fork and exec and makes system calls only: it neither allocates nor locks.
        unsafe {
            command.pre_exec(|| {
                set_pdeathsig(Signal::SIGKILL)?;
                setsid()?;
                // The standard streams are in place by now.
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        // Their ends stay open in the command, which would keep the terminal from hanging up.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

        let screen = Arc::new(Mutex::new(vt100::Parser::new(size.rows, size.columns, 0)));
        let over = Arc::new(AtomicBool::new(false));
        let reader = {
            let (ours, screen, over) = (ours.try_clone()?, Arc::clone(&screen), Arc::clone(&over));
            thread::spawn(move || read(ours, &screen, &over))
        };
        Ok(Self { child, ours, theirs, before, screen, over, reader: Some(reader) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types text, or bytes that keys send.
    pub fn type_in(&self, keys: &str) -> Result<()> {
        (&self.ours).write_all(keys.as_bytes()).context("cannot type into the terminal")
    }

    /// Makes it larger or smaller; the program is told by SIGWINCH.
    pub fn resize(&self, size: Size) -> Result<()> {
        self.parser(|parser| parser.screen_mut().set_size(size.rows, size.columns));
        set_size(&self.ours, size)
    }

    /// What is on the screen.
    pub fn screen(&self) -> vt100::Screen {
        self.parser(|parser| parser.screen().clone())
    }

    /// The same, as lines of text.
    pub fn text(&self) -> String {
        self.screen().contents()
    }

    fn parser<T>(&self, act: impl FnOnce(&mut vt100::Parser) -> T) -> T {
        act(&mut self.screen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the text on the screen is as it should be. Fails with the screen if it is not within `limit`.
    pub fn until(&self, what: &str, limit: Duration, mut condition: impl FnMut(&str) -> bool) -> Result<()> {
        wait_until(what, limit, || Ok(condition(&self.text())))
            .with_context(|| format!("the screen is:\n{}", self.text()))
    }

    /// Whether the program has taken over the terminal: another screen, no cursor, keys one by one.
    pub fn is_taken_over(&self) -> Result<bool> {
        let screen = self.screen();
        Ok(screen.alternate_screen() && screen.hide_cursor() && self.settings()? != self.before)
    }

    /// Whether nothing is left of a program that has taken over the terminal.
    pub fn is_as_before(&self) -> Result<bool> {
        let screen = self.screen();
        let plain = !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste();
        let quiet = screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
        Ok(plain && quiet && self.settings()? == self.before)
    }

    fn settings(&self) -> Result<Termios> {
        tcgetattr(&self.theirs).context("cannot read the settings of the terminal")
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Waits for the end of the program.
    pub fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(status) => return Ok(status),
                None if start.elapsed() < limit => thread::sleep(POLL),
                None => bail!("it did not end within {limit:?}; the screen is:\n{}", self.text()),
            }
        }
    }

    /// Hangs up, as a network connection that breaks, and waits for the end of the program.
    pub fn hang_up(mut self, limit: Duration) -> Result<ExitStatus> {
        self.stop_reading();
        let null = File::open("/dev/null")?;
        self.theirs = null.try_clone()?;
        self.ours = null;
        self.ended(limit)
    }

    fn stop_reading(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It does not panic.
            let _ = reader.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stop_reading();
    }
}

/// Both ends of a new one. No other program that is started inherits them, which would keep it from hanging up.
fn pair() -> Result<(File, File)> {
    let ours = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ptsname_r(&ours)?;
    let theirs = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(theirs)?;
    Ok((File::from(OwnedFd::from(ours)), theirs))
}

fn set_size(ours: &File, size: Size) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the argument is what TIOCSWINSZ takes.
    match unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).context("cannot resize a terminal"),
    }
}

fn read(mut ours: File, screen: &Mutex<vt100::Parser>, over: &AtomicBool) {
    let mut bytes = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        let mut wanted = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut wanted, PollTimeout::from(LOOK)), Ok(1..)) {
            continue;
        }
        match ours.read(&mut bytes) {
            Ok(length) => screen.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..length]),
            Err(_) => thread::sleep(POLL),
        }
    }
}
