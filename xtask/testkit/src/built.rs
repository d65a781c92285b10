//! What cargo builds, and where it has put it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::interrupt;

/// A message of cargo about something that it has built, as far as we look (`--message-format=json`).
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The program or test of that name, from what cargo has written on its standard output: a JSON object on each line.
pub fn executable(messages: &[u8], name: &str) -> Result<PathBuf> {
    let artifacts = messages.split(|byte| *byte == b'\n');
    let mut artifacts = artifacts.filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    artifacts
        .find_map(|artifact| artifact.executable.filter(|_| artifact.target.name == name))
        .with_context(|| format!("cargo has built no program {name}"))
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    // Two folders above this crate's.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a folder of the workspace")
}

/// The cargo that runs us, at the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs `cargo build` with these arguments, and returns the path of the program of that name.
pub fn build(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let built = cargo()
        .args(["build", "--locked", "--message-format=json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    interrupt::check()?;
    ensure!(built.status.success(), "{name} cannot be built; cargo says why above");
    executable(&built.stdout, name)
}

/// Builds portguard and returns the program's path.
pub fn portguard() -> Result<PathBuf> {
    build(&["--package=portguard", "--bin=portguard"], "portguard")
}
