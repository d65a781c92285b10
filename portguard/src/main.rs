//! Parses the command line, runs one command, and turns its result into an exit code.

mod resolver;

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use portguard::cli::{self, Cli};
use portguard::term;

fn main() -> ExitCode {
    forget_empty_variables();
    resolver::confine();
    let Cli { command } = Cli::try_parse().unwrap_or_else(|error| cli::nearest_first(error).exit());
    let mut out = io::BufWriter::new(UntilReaderLeaves(io::stdout().lock()));
    let result = command.run(&mut out);
    let result = result.and_then(|code| out.flush().map(|()| code).map_err(cli::unwritten));
    result.unwrap_or_else(|error| {
        term::error(&error);
        ExitCode::from(error.kind().exit_code())
    })
}

/// A variable that is set to nothing is not set, as in `/etc/default/portguard`.
fn forget_empty_variables() {
    for name in ["PORTGUARD_ALLOWLIST", "PORTGUARD_METRICS"] {
        if env::var_os(name).is_some_and(|value| value.is_empty()) {
            // SAFETY: there is no other thread yet.
            unsafe { env::remove_var(name) };
        }
    }
}

/// Output that nobody reads any more (`portguard stats | head`) is no failure, and no reason to leave work half done.
struct UntilReaderLeaves<W>(W);

impl<W: io::Write> io::Write for UntilReaderLeaves<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}
