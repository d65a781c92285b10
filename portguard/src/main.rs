//! Parses the command line, runs one command, and turns its result into an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use portguard::cli::{Cli, Command};
use portguard::{commands, output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &cli.command {
        Command::Attach(args) => commands::attach::run(args, &mut out),
        Command::Detach(args) => commands::detach::run(args, &mut out),
        Command::Reload(args) => commands::reload::run(args, &mut out),
        Command::Status(args) => commands::status::run(args, &mut out),
        Command::Stats(args) => commands::stats::run(args, &mut out),
        Command::Check(args) => commands::check::run(args, &mut out),
    };
    let result = result.and_then(|code| match out.flush() {
        Ok(()) => Ok(code),
        // The reader went away (`portguard stats | head`): nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(code),
        Err(error) => Err(commands::unwritten(error)),
    });
    result.unwrap_or_else(|error| {
        output::error::print(&error);
        ExitCode::from(error.kind().exit_code())
    })
}
