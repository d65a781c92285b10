//! Parses the command line, runs one command, and turns its result into an exit code.

mod resolver;

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use portguard::cli::{Cli, Command};
use portguard::{commands, output};

fn main() -> ExitCode {
    forget_empty_variables();
    resolver::confine();
    let cli = Cli::parse();
    let mut out = io::BufWriter::new(UntilReaderLeaves(io::stdout().lock()));
    let result = match &cli.command {
        Command::Attach(args) => commands::attach::run(args, &mut out),
        Command::Detach(args) => commands::detach::run(args, &mut out),
        Command::Reload(args) => commands::reload::run(args, &mut out),
        Command::Confirm(args) => commands::confirm::run(args, &mut out),
        Command::Guardian(args) => commands::confirm::guardian(args),
        Command::Run(args) => commands::run::run(args),
        Command::Status(args) => commands::status::run(args, &mut out),
        Command::Stats(args) => commands::stats::run(args, &mut out),
        Command::Top(args) => commands::top::run(args),
        Command::Check(args) => commands::check::run(args, &mut out),
        Command::Explain(args) => commands::explain::run(args, &mut out),
        Command::Suggest(args) => commands::suggest::run(args, &mut out),
        Command::Report(args) => commands::report::run(args, &mut out),
        Command::Probe(args) => commands::probe::run(args, &mut out),
        Command::Doctor(args) => commands::doctor::run(args, &mut out),
    };
    let result = result.and_then(|code| out.flush().map(|()| code).map_err(commands::unwritten));
    result.unwrap_or_else(|error| {
        output::error::print(&error);
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
