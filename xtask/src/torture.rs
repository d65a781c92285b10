//! `cargo xtask torture` and `cargo xtask soak`: the long forms of what `cargo xtask test` tries in short, with their
//! figures in `docs/reliability.md`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::figures::Figures;

use crate::reliability::{DOCUMENT, SOAK, TORTURE};
use crate::{cargo, earlier, setup, test, unload};
use portguard_testkit::document::rows;

/// The part that upgrades guards of an earlier portguard.
const UPGRADES: &str = "upgrades";

/// The part that lets another tool detach the link of a guard.
const UNLOAD: &str = "unload";

/// What asks for guards at tcx.
const HOOK: &str = "PORTGUARD_TORTURE_HOOK";
/// The parts that are about XDP alone: guards of an earlier portguard, another tool for XDP, links that go with their interface.
const OF_XDP_ALONE: [&str; 3] = [UPGRADES, UNLOAD, "interfaces"];

/// Arguments of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
pub(crate) struct TortureArgs {
    /// Only what one module of portguard/tests/lifecycle/torture tries, such as `kills`
    part: Option<String>,
    /// With guards at tcx, behind the XDP program of another, and without what is about XDP alone; writes no document
    #[arg(long)]
    tcx: bool,
}

/// Arguments of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// With the guard at tcx, behind the XDP program of another; writes no document
    #[arg(long)]
    tcx: bool,
}

/// Tortures, and writes `docs/reliability.md`: the figures of each test as soon as it is through.
pub(crate) fn torture(args: &TortureArgs) -> Result<()> {
    let filter =
        args.part.as_ref().map_or_else(|| "torture::".to_owned(), |part| format!("torture::{part}::"));
    let mut command = tests(&filter);
    command.args(["--skip=soak", "--test-threads=1"]).env("PORTGUARD_TORTURE", "long");
    if args.part.as_deref().is_none_or(|part| part == UPGRADES) {
        setup::run(&setup::Args::default())?;
        command.env(earlier::VARIABLE, earlier::portguard(earlier::ABI_4)?);
        command.env(earlier::VARIABLE_ABI_8, earlier::portguard(earlier::ABI_8)?);
    }
    if args.part.as_deref().is_none_or(|part| part == UNLOAD) {
        command.env(unload::VARIABLE, unload::xdp_loader()?);
    }
    if args.tcx {
        command.env(HOOK, "tcx").args(OF_XDP_ALONE.map(|part| format!("--skip=torture::{part}::")));
        return run(&mut command, |_| Ok(()));
    }
    run(&mut command, |figures| {
        let key = TORTURE.into_iter().find(|key| *key == figures.test());
        let key = key.with_context(|| format!("no key for the figures of {}", figures.test()))?;
        DOCUMENT.write(key, &rows(figures))
    })
}

/// Soaks, and writes `docs/reliability.md`.
pub(crate) fn soak(args: &SoakArgs) -> Result<()> {
    let mut command = tests("torture::soak::");
    command.env("PORTGUARD_SOAK", args.seconds.to_string());
    if args.tcx {
        return run(command.env(HOOK, "tcx"), |_| Ok(()));
    }
    run(&mut command, |figures| DOCUMENT.write(SOAK, &rows(figures)))
}

/// Tests of a guard's life.
fn tests(filter: &str) -> Command {
    let mut command = cargo();
    command.args([
        "test",
        "--locked",
        "--package=portguard",
        "--test=lifecycle",
        "--",
        "--nocapture",
        filter,
    ]);
    command
}

/// Runs tests, shows what they print, and hands over their figures.
fn run(command: &mut Command, mut take: impl FnMut(&Figures) -> Result<()>) -> Result<()> {
    setup::run(&setup::Args::default())?;
    test::require_preconditions()?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut taken = 0;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line.context("cannot read what cargo test prints")?;
        println!("{line}");
        if let Some(figures) = Figures::parse(&line) {
            take(&figures)?;
            taken += 1;
        }
    }
    if !child.wait().context("cannot wait for cargo test")?.success() {
        bail!("it did not hold");
    }
    ensure!(taken > 0, "no test has printed figures");
    Ok(())
}
