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
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Artifact {
    /// The unit tests of a library or program have the name of that.
    fn is_unit_tests(&self) -> bool {
        self.profile.test && !self.target.kind.iter().any(|kind| kind == "test")
    }
}

/// The program or test of that name, from what cargo has written on its standard output: a JSON object on each line.
pub fn executable(messages: &[u8], name: &str) -> Result<PathBuf> {
    let artifacts = messages.split(|byte| *byte == b'\n');
    let mut artifacts = artifacts.filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    artifacts
        .find(|artifact| {
            artifact.target.name == name && artifact.executable.is_some() && !artifact.is_unit_tests()
        })
        .and_then(|artifact| artifact.executable)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of cargo's.
    fn artifact(name: &str, kind: &str, test: bool, path: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"{path}"}}"#
        )
    }

    #[test]
    fn a_program_is_not_mistaken_for_its_unit_tests() {
        let messages = [
            artifact("portguard", "lib", true, "/deps/portguard-1"),
            artifact("portguard", "bin", true, "/deps/portguard-2"),
            artifact("portguard", "bin", false, "/portguard"),
            artifact("lifecycle", "test", true, "/deps/lifecycle-1"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let found = |name| executable(messages.as_bytes(), name).ok();
        assert_eq!(found("portguard"), Some("/portguard".into()));
        assert_eq!(found("lifecycle"), Some("/deps/lifecycle-1".into()));
        assert_eq!(found("other"), None);
    }
}
