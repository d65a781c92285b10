//! A copy of the committed sources with a patch applied, and tests that run there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{cargo, workspace};

/// The copy.
pub(super) struct Patched {
    copy: PathBuf,
    target: PathBuf,
}

/// The patches in a directory of the workspace, in the order of their names.
pub(super) fn patches(directory: &str) -> Result<Vec<PathBuf>> {
    let mut patches: Vec<PathBuf> = fs::read_dir(workspace().join(directory))
        .with_context(|| format!("cannot list {directory}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    patches.sort();
    ensure!(!patches.is_empty(), "no patches in {directory}");
    Ok(patches)
}

/// The name of a patch, in words.
pub(super) fn name(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().replace('-', " ")
}

impl Patched {
    /// Copies the committed sources, and applies a patch.
    pub(super) fn new(patch: &Path) -> Result<Self> {
        // One place for all patches, so that only what they touch is compiled anew.
        let place = workspace().join("target/mutants");
        let (copy, target) = (place.join("source"), place.join("target"));
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        }
        must(Command::new("git").args(["clone", "--quiet", "--local"]).arg(workspace()).arg(&copy))?;
        must(Command::new("git").arg("-C").arg(&copy).arg("apply").arg(patch))?;
        Ok(Self { copy, target })
    }

    /// Tests of portguard, as the arguments of `cargo test` say.
    pub(super) fn test(&self, arguments: &[&str]) -> Command {
        self.test_in("portguard", arguments)
    }

    /// The same, of a package.
    pub(super) fn test_in(&self, package: &str, arguments: &[&str]) -> Command {
        let mut command = cargo();
        command.current_dir(&self.copy).args(["test", "--locked", "--package", package]);
        command.arg("--target-dir").arg(&self.target).args(arguments);
        command
    }
}

/// Runs a command that must succeed.
pub(super) fn must(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "failed: {command:?}");
    Ok(())
}

/// Fails unless each patch in a directory applies to the sources.
#[cfg(test)]
pub(super) fn assert_fit(directory: &str) {
    for patch in patches(directory).expect("the patches") {
        let mut apply = Command::new("git");
        apply.arg("-C").arg(workspace()).args(["apply", "--check"]).arg(&patch);
        must(&mut apply).unwrap_or_else(|error| panic!("write {} anew: {error:#}", patch.display()));
    }
}
