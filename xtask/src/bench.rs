//! `cargo xtask bench` and `cargo xtask scaling`: sees to it that everything is there that `portguard-bench` needs.

use std::fs;

use anyhow::{Context as _, Result, anyhow, ensure};
use portguard_bench::{Object, scaling};

use crate::setup::{self, Purpose};
use crate::toolchain::Toolchain;
use crate::{test, workspace};

/// The kernel programs of the bench.
const PACKAGE: &str = "portguard-bench-ebpf";

/// Measures what portguard and its peers cost.
pub(crate) fn run(args: &portguard_bench::Args) -> Result<()> {
    setup::run_for(&setup::Args::default(), Purpose::Bench)?;
    test::require_preconditions()?;
    portguard_bench::run(args, &kernel_programs()?)
}

/// Measures what a guard takes.
pub(crate) fn scaling(args: &scaling::Args) -> Result<()> {
    setup::run_for(&setup::Args::default(), Purpose::Development)?;
    test::require_preconditions()?;
    scaling::run(args)
}

/// Compiles the kernel programs as portguard's is.
fn kernel_programs() -> Result<Object> {
    let toolchain = Toolchain::find(crate::kernel()).map_err(|missing| anyhow!("{missing}"))?;
    let target_dir = workspace().join("target/bench/ebpf");
    let status = toolchain
        .cargo("build", PACKAGE, workspace(), &target_dir)
        .arg("--quiet")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the kernel programs of the bench do not compile");
    let object = target_dir.join(crate::kernel().triple()).join("release").join(PACKAGE);
    let object = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    Ok(Object::new(object))
}
