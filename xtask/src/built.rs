//! Where cargo has put what it has built.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

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
