//! `cargo xtask test`: all tests, on a machine that can run them all.
//!
//! What is missing is found before the first test and named. Nothing is skipped.

mod preconditions;

use std::env;
use std::ffi::OsString;
use std::num::NonZero;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::built;

use crate::{cargo, earlier, setup};

/// How many tests of a program run at a time (`cargo test` has it from libtest).
const TEST_THREADS: &str = "RUST_TEST_THREADS";
/// Hands the path of the built portguard to the tests of [`TOOLS`]. Cargo tells it to the tests of portguard's package only;
/// others would build it once more, with other features.
const PROGRAM: &str = "PORTGUARD_PROGRAM";

/// What is released, and what developers use. They are tested apart, because cargo chooses the features of dependencies for
/// all packages that it tests together: so the tools have those that `cargo xtask` was built with, and are not built again.
///
/// Neither has examples that are tests, or tests in its documentation: `--tests` leaves them out.
const PRODUCT: [&str; 3] = ["--tests", "--package=portguard", "--package=portguard-common"];
const TOOLS: [&str; 4] =
    ["--tests", "--package=xtask", "--package=portguard-bench", "--package=portguard-testkit"];
/// The models of what several CPUs do at once, for loom, apart for the same reason.
const MODELS: [&str; 2] = ["--tests", "--package=portguard-models"];
/// All of them. The kernel programs are tested as the objects that the others embed; they cannot run on the host.
const EVERYTHING: [&str; 3] = ["--workspace", "--exclude=portguard-ebpf", "--exclude=portguard-bench-ebpf"];

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
    if !args.cargo.is_empty() {
        let mut command = cargo_test(&EVERYTHING);
        return test(give_earlier(&mut command)?.args(&args.cargo), args);
    }
    let program = program()?;
    // After the tests are built, because it takes over what is built of the dependencies.
    test(give_earlier(&mut cargo_test(&PRODUCT))?, args)?;
    test(cargo_test(&TOOLS).env(PROGRAM, program), args)?;
    test(&mut cargo_test(&MODELS), args)
}

/// Hands the programs of earlier commits to the tests.
fn give_earlier(command: &mut Command) -> Result<&mut Command> {
    // At the same time, because a build is for the most part that of one package, which does not keep two CPUs busy.
    let (abi_5, abi_8) = thread::scope(|scope| {
        let abi_5 = scope.spawn(|| earlier::portguard(earlier::ABI_5));
        let abi_8 = earlier::portguard(earlier::ABI_8);
        (abi_5.join().unwrap_or_else(|panic| panic::resume_unwind(panic)), abi_8)
    });
    let (abi_5, abi_8) = (abi_5?, abi_8?);
    Ok(command.env(earlier::VARIABLE, abi_5).env(earlier::VARIABLE_ABI_8, abi_8))
}

/// `cargo test`, with more tests at a time than CPUs: those of the life cycle wait for a packet, a process or the kernel for
/// a third of their time.
fn cargo_test(packages: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["test", "--locked"]).args(packages);
    if env::var_os(TEST_THREADS).is_none() {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        command.env(TEST_THREADS, (2 * cpus).to_string());
    }
    command
}

fn test(command: &mut Command, args: &Args) -> Result<()> {
    let status = command.arg("--").args(&args.programs).status().context("cannot run cargo test")?;
    ensure!(status.success(), "tests failed");
    Ok(())
}

/// Builds the tests of portguard, and returns the portguard that they run.
fn program() -> Result<PathBuf> {
    let built = cargo_test(&PRODUCT)
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo test")?;
    ensure!(built.status.success(), "the tests do not build");
    built::executable(&built.stdout, "portguard")
}

/// Fails if this machine, or this user, cannot run the tests, and says why.
pub(crate) fn require_preconditions() -> Result<()> {
    let missing = preconditions::missing();
    if !missing.is_empty() {
        bail!("the tests cannot run here:\n  {}", missing.join("\n  "));
    }
    Ok(())
}
