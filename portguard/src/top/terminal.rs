//! The terminal: taken over, and given back as it was however `top` ends.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use nix::sys::termios::tcgetattr;
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;

use crate::error::{Error, Kind, Result};

/// Standard output, but not through the lock that `main` holds: a thread that panics has to write to it.
#[derive(Debug)]
struct Output(File);

impl Write for Output {
    /// Of a terminal that has been given back, pictures are kept away; also of one that has hung up, where ratatui would
    /// panic when it is dropped.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if TAKEN.load(Ordering::SeqCst) { self.0.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A terminal that is ours until the value is dropped.
#[derive(Debug)]
pub struct Terminal {
    // Before the other one, see `Output`.
    _restore: Restore,
    inner: ratatui::Terminal<CrosstermBackend<BufWriter<Output>>>,
}

/// Fails, before anything is touched, unless both ends are a terminal that can show pictures.
pub fn require() -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::new(Kind::Usage, "top needs a terminal")
            .because(why)
            .remedy("To see the counters once, as text, JSON or CSV: portguard stats"))
    };
    if !io::stdout().is_terminal() {
        return refuse("standard output is not a terminal");
    }
    if !io::stdin().is_terminal() {
        return refuse("standard input is not a terminal");
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return refuse("TERM names a terminal that cannot move its cursor");
    }
    Ok(())
}

impl Terminal {
    /// Takes over the terminal. A panic, in whatever thread, gives it back before it says what happened.
    pub fn enter() -> Result<Self> {
        let mut output = BufWriter::new(Output(stdout()?));
        // From here on it is given back, also if the rest fails.
        let restore = Restore::new();
        enable_raw_mode().and_then(|()| execute!(output, EnterAlternateScreen)).map_err(unusable)?;
        let inner = ratatui::Terminal::new(CrosstermBackend::new(output)).map_err(unusable)?;
        Ok(Self { _restore: restore, inner })
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

/// Whether the terminal is ours. It is given back once: a terminal that is told so twice puts its cursor back twice, and
/// what was said meanwhile is written over.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back when it is dropped, or somebody panics.
#[derive(Debug)]
struct Restore;

impl Restore {
    fn new() -> Self {
        TAKEN.store(true, Ordering::SeqCst);
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
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = disable_raw_mode();
    if let Ok(mut output) = stdout() {
        let _ = execute!(output, LeaveAlternateScreen, Show);
    }
}

fn stdout() -> Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(unusable)
}

fn unusable(error: io::Error) -> Error {
    Error::failed("cannot use the terminal").caused_by(error)
}
