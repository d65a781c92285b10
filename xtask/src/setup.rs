//! `cargo xtask setup`: installs what building, testing and the demo need, and nothing that is there already. What a
//! single command needs beside that is installed when the command is run.
//!
//! It looks, plans, says what it will do and why, does it, and looks again, until nothing is missing: what a bpf-linker
//! must be like is known only once the compiler is there.

mod apt;
mod install;
mod plan;
mod progress;
mod requirement;
mod services;

use anyhow::{Result, bail};

use self::plan::Machine;
use self::requirement::Need;
pub(crate) use self::requirement::Purpose;

/// Arguments of `cargo xtask setup`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Only report what is missing; exit 1 if anything is
    #[arg(long)]
    check: bool,
}

/// Installs what is missing for development.
pub(crate) fn run(args: &Args) -> Result<()> {
    run_for(args, Purpose::Development)
}

/// Installs what is missing for some purpose.
pub(crate) fn run_for(args: &Args, purpose: Purpose) -> Result<()> {
    let mut before: Option<Vec<Need>> = None;
    loop {
        let missing = requirement::missing(purpose);
        if missing.is_empty() {
            eprintln!("setup: everything is there");
            return Ok(());
        }
        eprintln!("setup: missing:");
        for need in &missing {
            eprintln!("  {need}: {}", need.why());
        }
        if args.check {
            bail!("{} of the requirements are missing; `cargo xtask setup` installs them", missing.len());
        }
        if before.as_ref() == Some(&missing) {
            bail!("still missing after the installation: {}", requirement::names(&missing));
        }
        let machine = Machine::inspect(&missing)?;
        let plan = plan::make(&missing, &machine)?;
        install::carry_out(&plan)?;
        before = Some(missing);
    }
}
