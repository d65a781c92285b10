//! `cargo xtask lint`: formatting, lints, documentation, licences, layers, words.
//!
//! The kernel program is linted for the BPF target, by the clippy of the compiler that builds it.

mod layers;
mod words;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::Toolchain;
use crate::{cargo, licences, setup, workspace};

/// The crates that run on the host.
const HOST: [&str; 5] = [
    "--workspace",
    "--exclude=portguard-ebpf",
    "--exclude=portguard-bench-ebpf",
    "--exclude=portguard-models",
    "--locked",
];

/// The models for loom, apart because of the features that loom asks for.
const MODELS: [&str; 2] = ["--package=portguard-models", "--locked"];

/// The packages for the kernel.
const KERNEL: &str = "portguard-ebpf";
const BENCH: &str = "portguard-bench-ebpf";

/// The package that an old cargo has to read, which is none of the workspace.
const START: &str = "--manifest-path=xtask/start/Cargo.toml";

/// Makes warnings errors, for rustdoc.
const STRICT: &str = "-Dwarnings";

/// Runs every check, and fails naming those that failed.
pub(crate) fn run() -> Result<()> {
    setup::run(&setup::Args::default())?;
    let toolchain = Toolchain::find(crate::kernel()).map_err(|missing| anyhow::anyhow!("{missing}"))?;

    eprintln!("lint: kernel program by {toolchain}");

    let mut failed = Vec::new();
    for (name, mut command) in checks(&toolchain)? {
        eprintln!("lint: {name}");
        let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
        if !status.success() {
            failed.push(name);
        }
    }
    for (name, checked) in
        [("licences", licences::check()), ("layers", layers::check()), ("words", words::check())]
    {
        eprintln!("lint: {name}");
        if let Err(error) = checked {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    eprintln!("lint: nothing to complain about");
    Ok(())
}

/// The checks that are commands.
fn checks(toolchain: &Toolchain) -> Result<Vec<(&'static str, Command)>> {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);

    let mut start_format = cargo();
    start_format.args(["fmt", START, "--check"]);
    let mut start_clippy = cargo();
    start_clippy.args(["clippy", START, "--target-dir=target/start", "--locked", "--", STRICT]);

    let mut clippy = cargo();
    clippy.arg("clippy").args(HOST).args(["--all-targets", "--", STRICT]);
    let mut models = cargo();
    models.arg("clippy").args(MODELS).args(["--all-targets", "--", STRICT]);

    // Of the whole workspace, as clippy's, so that cargo chooses the same features and checks each dependency once.
    let documentation = || {
        let mut command = cargo();
        command.arg("doc").args(HOST).args(["--no-deps", "--document-private-items"]);
        command.env("RUSTDOCFLAGS", STRICT);
        command
    };
    // `cargo doc` leaves out a program that has the name of its library. Quiet, because cargo warns that it lays its
    // pages over the library's, whose turn is later.
    let mut program = documentation();
    program.args(["--quiet", "--bin=portguard"]);

    let target_dir = workspace().join("target/kernel-lint");
    let kernel_clippy = |package| -> Result<Command> {
        let clippy =
            toolchain.compiler.companion("cargo-clippy").context("the compiler for BPF has no clippy")?;
        let cargo = toolchain.cargo("clippy", package, workspace(), &target_dir);
        // The same command, by the clippy that belongs to that compiler.
        let mut command = Command::new(clippy);
        command.args(cargo.get_args()).args(["--", STRICT]).current_dir(workspace());
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Ok(command)
    };
    let kernel_doc = |package| {
        let mut command = toolchain.cargo("doc", package, workspace(), &target_dir);
        command.args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", STRICT);
        command
    };

    Ok(vec![
        ("formatting", format),
        ("formatting, start", start_format),
        ("clippy, host", clippy),
        ("clippy, models", models),
        ("clippy, start", start_clippy),
        ("clippy, kernel", kernel_clippy(KERNEL)?),
        ("clippy, kernel programs of the bench", kernel_clippy(BENCH)?),
        ("documentation, portguard", program),
        ("documentation, libraries and xtask", documentation()),
        ("documentation, kernel", kernel_doc(KERNEL)),
        ("documentation, kernel programs of the bench", kernel_doc(BENCH)),
    ])
}
