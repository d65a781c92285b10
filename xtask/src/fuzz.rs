//! `cargo xtask fuzz`: runs the fuzz targets for a given time, with cargo-fuzz.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::verify::DOCUMENT;
use crate::{cargo, setup, workspace};

/// The key of its figures in the document.
const KEY: &str = "fuzzing";
/// The cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to fuzz; everything, one after the other, if absent
    target: Option<Target>,
    /// For how long, each
    #[arg(long, default_value_t = 180)]
    seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The frame parser, against the oracle
    Frame,
    /// The RPC header, against the oracle
    Rpc,
    /// The allowlist file
    Allowlist,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Rpc => "rpc",
            Self::Allowlist => "allowlist",
        }
    }

    /// The longest input that is tried.
    fn max_len(self) -> u32 {
        match self {
            // Sixteen extension headers, of which one or two are long.
            Self::Frame => 4096,
            // The longest TCP header, and what a call begins with.
            Self::Rpc => 128,
            Self::Allowlist => 8192,
        }
    }
}

/// Runs one target, or all.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(&setup::Args::default())?;
    require_cargo_fuzz()?;
    let targets = args.target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    for target in targets {
        let inputs = fuzz(target, args.seconds)?;
        record(target, inputs, args.seconds)?;
    }
    Ok(())
}

fn require_cargo_fuzz() -> Result<()> {
    let is_there = cargo().args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success());
    if is_there {
        return Ok(());
    }
    eprintln!("fuzz: installing cargo-fuzz {CARGO_FUZZ}: builds and runs the targets with libFuzzer");
    let status = cargo().args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]).status();
    if !status.context("cannot run cargo install")?.success() {
        bail!(
            "cannot install cargo-fuzz. Check the network; by hand: cargo install cargo-fuzz --version {CARGO_FUZZ}"
        );
    }
    Ok(())
}

/// Returns how many inputs were tried.
fn fuzz(target: Target, seconds: u32) -> Result<u64> {
    let name = target.name();
    let corpus = workspace().join("fuzz/corpus").join(name);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let mut command = cargo();
    // The sanitizer and the coverage are unstable features; a nightly compiler has them, any other must be told.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.args(["fuzz", "run", name]).arg(&corpus).arg(workspace().join("fuzz/seeds").join(name)).arg("--");
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={}", target.max_len()));
    command.args(["-timeout=20", "-print_final_stats=1"]);
    eprintln!("fuzz: {name} for {seconds} s");
    let tried = watch(&mut command).with_context(|| {
        format!("{name}: what it found is in fuzz/artifacts/{name}; fuzz/README.md says what to do")
    })?;
    tried.with_context(|| format!("{name}: libFuzzer did not say how many inputs it tried"))
}

/// Runs libFuzzer, shows what it says, and picks out the number of inputs.
fn watch(command: &mut Command) -> Result<Option<u64>> {
    const TRIED: &str = "stat::number_of_executed_units:";
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot run cargo fuzz")?;
    let mut tried = None;
    for line in BufReader::new(child.stderr.take().context("no output")?).split(b'\n') {
        let line = line.context("cannot read what libFuzzer says")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if let Some(number) = line.strip_prefix(TRIED) {
            tried = number.trim().parse().ok();
        }
    }
    if !child.wait().context("cannot wait for cargo fuzz")?.success() {
        bail!("the fuzz target failed");
    }
    Ok(tried)
}

/// Writes down the figures of one target, and keeps those of the others.
fn record(target: Target, inputs: u64, seconds: u32) -> Result<()> {
    let old = DOCUMENT.read(KEY).unwrap_or_default();
    let row = |target: Target| format!("| `{}` |", target.name());
    let new = format!("{} {inputs} inputs in {seconds} s, no failure |", row(target));
    let mut table = "| target | |\n|---|---|\n".to_owned();
    for known in Target::value_variants() {
        let kept = old.lines().find(|line| line.starts_with(&row(*known)));
        if let Some(line) = if *known == target { Some(new.as_str()) } else { kept } {
            table += &format!("{line}\n");
        }
    }
    DOCUMENT.write(KEY, &table)
}
