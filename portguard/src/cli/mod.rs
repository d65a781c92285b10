//! The command line: one verb, one folder. `mod.rs` of a verb has its arguments and `run`; `document.rs` its JSON and CSV,
//! `text.rs` its text.
//!
//! A new verb takes its folder, and a line in each of the three lists of this file.

mod absent;
pub mod allow;
pub mod attach;
mod change;
pub mod check;
pub mod confirm;
pub mod detach;
pub mod doctor;
pub mod edit;
pub mod explain;
mod guardian;
mod options;
mod print;
pub mod probe;
pub mod reload;
pub mod report;
pub mod revoke;
pub mod run;
pub mod stats;
pub mod status;
pub mod suggest;
pub mod top;

use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use crate::error::Result;

pub use self::print::unwritten;

/// Guards port 111 (rpcbind) with XDP: only the sources on your allowlist get through.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put the guard on interfaces; it remains until `detach`
    Attach(attach::Args),
    /// Take the guard off interfaces
    Detach(detach::Args),
    /// Put a changed allowlist in force, in one step
    Reload(reload::Args),
    /// Add entries to the allowlist, and put it in force
    Allow(allow::Args),
    /// Take entries out of the allowlist, and put it in force
    Revoke(revoke::Args),
    /// Edit the allowlist in an editor, and put it in force if it is valid
    Edit(edit::Args),
    /// Keep a change that `attach --confirm` or `reload --confirm` has put on trial
    Confirm(confirm::Args),
    /// Keep interfaces guarded, as a service that follows the list and the interfaces
    Run(run::Args),
    /// Show the guard of each interface, with its list
    Status(status::Args),
    /// Show the allowed and dropped packets, in total and per source
    Stats(stats::Args),
    /// Show the counters live, with rates, in the terminal
    Top(top::Args),
    /// Validate an allowlist without touching the kernel
    Check(check::Args),
    /// Show the verdict of the guard's program on an address, and the entry that decides
    Explain(explain::Args),
    /// Propose an allowlist from the clients that this host knows
    Suggest(suggest::Args),
    /// Write the evidence that an abuse desk needs
    Report(report::Args),
    /// Send requests to a host's port 111 as an attacker would, and show the replies
    Probe(probe::Args),
    /// Check whether this host is guarded, find obstacles to a guard, and name a fix for each
    Doctor(doctor::Args),
    /// Restore the previous state unless a change on trial is confirmed: started by `--confirm`
    #[command(hide = true)]
    Guardian(guardian::Args),
}

/// Lets an error about an unknown verb suggest the nearest one first: clap has it last.
#[must_use]
pub fn nearest_first(mut error: clap::Error) -> clap::Error {
    if let (Some(ContextValue::String(typed)), Some(ContextValue::Strings(known))) =
        (error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::SuggestedSubcommand))
    {
        let mut known = known.clone();
        known.sort_by_key(|known| strsim::damerau_levenshtein(typed, known));
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(known));
    }
    error
}

impl Command {
    /// Runs the verb. Data go to `out`, all else to standard error.
    ///
    /// # Errors
    /// Those of the verb.
    pub fn run(&self, out: &mut dyn Write) -> Result<ExitCode> {
        match self {
            Self::Attach(args) => attach::run(args, out),
            Self::Detach(args) => detach::run(args, out),
            Self::Reload(args) => reload::run(args, out),
            Self::Allow(args) => allow::run(args, out),
            Self::Revoke(args) => revoke::run(args, out),
            Self::Edit(args) => edit::run(args, out),
            Self::Confirm(args) => confirm::run(args, out),
            Self::Run(args) => run::run(args),
            Self::Status(args) => status::run(args, out),
            Self::Stats(args) => stats::run(args, out),
            Self::Top(args) => top::run(args),
            Self::Check(args) => check::run(args, out),
            Self::Explain(args) => explain::run(args, out),
            Self::Suggest(args) => suggest::run(args, out),
            Self::Report(args) => report::run(args, out),
            Self::Probe(args) => probe::run(args, out),
            Self::Doctor(args) => doctor::run(args, out),
            Self::Guardian(args) => guardian::run(args),
        }
    }
}
