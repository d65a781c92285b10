//! What cargo builds, and where it has put it.

use std::env;
use std::path::PathBuf;
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

/// Builds portguard and returns the program's path.
pub fn portguard() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--package", "portguard", "--bin", "portguard"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    interrupt::check()?;
    ensure!(built.status.success(), "portguard cannot be built; cargo says why above");
    executable(&built.stdout, "portguard")
}
