//! `cargo xtask verify`: the long form of what `cargo xtask test` runs in short, with its figures.

mod condition_mutants;
mod mutants;
mod patched;
mod variants;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use portguard_testkit::document::{Document, rows};
use portguard_testkit::figures::Figures;

use crate::{cargo, earlier, setup, test};

/// What readers see of it.
pub(crate) const DOCUMENT: Document = Document("docs/verification.md");

/// Arguments of `cargo xtask verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to verify; everything, one after the other, if absent
    part: Option<Part>,
    /// How many frames to try, instead of 10,000,000 for the parsers and 1,000,000 for Linux; or tables, instead of 3,000
    #[arg(long)]
    frames: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The table of frames, on the host and in the kernel
    Table,
    /// The oracle, the host build and the loaded program against each other
    Parsers,
    /// The same with calls to rpcbind, where listed sources may make lookups only
    Calls,
    /// The program of an earlier portguard and the one of this against each other
    Earlier,
    /// What Linux delivers without the guard and with it
    Linux,
    /// Whether `suggest` reads tables of exports as exportfs does
    Exports,
    /// Whether deliberate bugs are caught
    Mutants,
    /// Whether deliberate bugs in the conditions of entries are caught
    ConditionMutants,
    /// Whether one more variant of a list that users see is everywhere
    Variants,
}

/// Verifies, and writes `docs/verification.md`.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    test::require_preconditions()?;
    match args.part {
        Some(part) => verify(part, args.frames),
        None => Part::value_variants().iter().try_for_each(|part| verify(*part, args.frames)),
    }
}

fn verify(part: Part, frames: Option<u64>) -> Result<()> {
    match part {
        Part::Table => table(),
        Part::Parsers => long("parsers", "program", "random_frames", frames.unwrap_or(10_000_000)),
        Part::Calls => long("calls", "program", "random_calls", frames.unwrap_or(10_000_000)),
        Part::Earlier => long("earlier", "program", "earlier::", frames.unwrap_or(10_000_000)),
        Part::Linux => long("linux", "linux", "linux_delivers", frames.unwrap_or(1_000_000)),
        Part::Exports => exports(frames.unwrap_or(3_000)),
        Part::Mutants => mutants::run(),
        Part::ConditionMutants => condition_mutants::run(),
        Part::Variants => variants::run(),
    }
}

fn table() -> Result<()> {
    let figures = figures("table", tests("program").args(["--skip=parsers::", "--skip=earlier::"]))?;
    DOCUMENT.write("table", &rows(&figures))
}

fn exports(tables: u64) -> Result<()> {
    let mut command = tests("lifecycle");
    command.arg("random_tables_are_read").env("PORTGUARD_EXPORTS", tables.to_string());
    let figures = figures("exports", &mut command)?;
    if figures.get("tables").is_none_or(|tried| tried < tables) {
        bail!("fewer tables were tried than asked for: {figures}");
    }
    DOCUMENT.write("exports", &rows(&figures))
}

fn long(key: &str, program: &str, filter: &str, frames: u64) -> Result<()> {
    let mut command = tests(program);
    if key == "earlier" {
        command.env(earlier::VARIABLE, earlier::portguard(earlier::ABI_4)?);
    }
    let figures = figures(key, command.arg(filter).env("PORTGUARD_FRAMES", frames.to_string()))?;
    if figures.get("frames").is_none_or(|tried| tried < frames) {
        bail!("fewer frames were tried than asked for: {figures}");
    }
    DOCUMENT.write(key, &rows(&figures))
}

/// A test program of portguard, with what it prints; as `cargo xtask test` has built it, which is optimised enough.
fn tests(program: &str) -> Command {
    let mut command = cargo();
    command.args(["test", "--locked", "--package=portguard", "--test", program, "--", "--nocapture"]);
    command
}

/// Runs tests, shows what they print, and picks out the figures of one of them.
fn figures(key: &str, command: &mut Command) -> Result<Figures> {
    eprintln!("verify: {key}");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut found = None;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line.context("cannot read what cargo test prints")?;
        println!("{line}");
        found = Figures::parse(&line).filter(|figures| figures.test() == key).or(found);
    }
    if !child.wait().context("cannot wait for cargo test")?.success() {
        bail!("{key} is not verified");
    }
    found.with_context(|| format!("the tests of {key} printed no figures"))
}
