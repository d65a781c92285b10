//! `cargo xtask test`: all tests, on a machine that can run them all.
//!
//! What is missing is found before the first test and named. Nothing is skipped.

mod preconditions;

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};

use crate::{cargo, setup};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Handed on to `cargo test`
    #[arg(value_name = "CARGO_ARGS", allow_hyphen_values = true)]
    cargo: Vec<OsString>,
    /// Handed on to the test programs
    #[arg(value_name = "TEST_ARGS", last = true)]
    programs: Vec<OsString>,
}

/// Runs all tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    require_preconditions()?;
    // The kernel program is tested as the object that portguard embeds; it cannot run on the host.
    let mut command = cargo();
    command.args(["test", "--workspace", "--exclude=portguard-ebpf", "--exclude=portguard-bench-ebpf"]);
    command.arg("--locked").args(&args.cargo);
    command.arg("--").args(&args.programs);
    let status = command.status().context("cannot run cargo test")?;
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

/// Fails if this machine, or this user, cannot run the tests, and says why.
pub(crate) fn require_preconditions() -> Result<()> {
    let missing = preconditions::missing();
    if !missing.is_empty() {
        bail!("the tests cannot run here:\n  {}", missing.join("\n  "));
    }
    Ok(())
}
