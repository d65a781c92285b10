//! Parses the command line, runs one command, and turns its result into an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use portguard::allowlist::Style;
use portguard::cli::{Cli, Command};
use portguard::commands;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = match &cli.command {
        Command::Check(args) => commands::check::run(args, &mut out),
        _ => unreachable!(),
    };
    let result = result.and_then(|code| match out.flush() {
        Ok(()) => Ok(code),
        // The reader went away (`portguard stats | head`): nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(code),
        Err(error) => Err(portguard::error::Error::failed("cannot write to standard output").because(error)),
    });
    result.unwrap_or_else(|error| {
        if let Some(invalid) = error.allowlist() {
            eprint!("{}", invalid.render(Style::of(&io::stderr())));
        }
        eprintln!("portguard: {error}");
        ExitCode::from(error.kind().exit_code())
    })
}
