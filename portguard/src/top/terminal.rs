//! The terminal: taken over, and given back as it was however `top` ends.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic;

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use nix::sys::termios::tcgetattr;
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;

use crate::error::{Error, Kind, Result};

/// Standard output, but not through the lock that `main` holds: a thread that panics has to write to it.
type Output = BufWriter<File>;

/// A terminal that is ours until the value is dropped.
#[derive(Debug)]
pub struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Output>>,
    _restore: Restore,
}

/// Fails, before anything is touched, unless both ends are a terminal that can show pictures.
pub fn require() -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::new(Kind::Usage, "top needs a terminal")
            .because(why)
            .remedy("To see the counters once, as text, JSON or CSV: portguard stats"))
    };
    if !io::stdout().is_terminal() {
        return refuse("standard output is none");
    }
    if !io::stdin().is_terminal() {
        return refuse("standard input is none");
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return refuse("TERM says that this one cannot move its cursor");
    }
    Ok(())
}

impl Terminal {
    /// Takes over the terminal. A panic, in whatever thread, gives it back before it says what happened.
    pub fn enter() -> Result<Self> {
        let mut output = output()?;
        // From here on it is given back, also if the rest fails.
        let restore = Restore::new();
        enable_raw_mode().and_then(|()| execute!(output, EnterAlternateScreen)).map_err(unusable)?;
        let inner = ratatui::Terminal::new(CrosstermBackend::new(output)).map_err(unusable)?;
        Ok(Self { inner, _restore: restore })
    }

    /// Shows a picture.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.inner.draw(picture).map(drop).map_err(unusable)
    }

    /// Forgets what is on the screen: somebody else may have written to it.
    pub fn clear(&mut self) -> Result<()> {
        self.inner.clear().map_err(unusable)
    }

    /// Fails if the terminal has hung up, which not everyone is told of by a signal.
    pub fn require_alive(&self) -> Result<()> {
        tcgetattr(io::stdout()).map(drop).map_err(|errno| unusable(errno.into()))
    }
}

/// Gives the terminal back when it is dropped, or somebody panics.
#[derive(Debug)]
struct Restore;

impl Restore {
    fn new() -> Self {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
        Self
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        restore();
    }
}

/// Who cannot be written to has nothing to be given back.
fn restore() {
    let _ = disable_raw_mode();
    if let Ok(mut output) = output() {
        let _ = execute!(output, LeaveAlternateScreen, Show);
        let _ = output.flush();
    }
}

fn output() -> Result<Output> {
    let descriptor = io::stdout().as_fd().try_clone_to_owned().map_err(unusable)?;
    Ok(BufWriter::new(File::from(descriptor)))
}

fn unusable(error: io::Error) -> Error {
    Error::failed("cannot use the terminal").because(error)
}
