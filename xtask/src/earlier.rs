//! The portguard of an earlier commit, built from that commit: the guards that upgrades across ABIs begin with.
//!
//! It is built once, into a folder of its own below `target/earlier`, and found there afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::interrupt;

use crate::{cargo, workspace};

/// The last commit whose guards have ABI 4.
pub(crate) const ABI_4: Commit = Commit("e6a068332b1c9ef60e96a8ed6876f0fb301477a9");
/// The last commit whose guards have ABI 5.
pub(crate) const ABI_5: Commit = Commit("870659739bb2cd3a0d6e40e66538f84dd80ce198");
/// The last commit whose guards have ABI 8.
pub(crate) const ABI_8: Commit = Commit("b93a9ee0a5eb4b76db6ca580788cf77405fcc88b");
/// Hands the path of the program to the tests.
pub(crate) const VARIABLE: &str = "PORTGUARD_EARLIER";
/// The same, of the program whose guards have ABI 8.
pub(crate) const VARIABLE_ABI_8: &str = "PORTGUARD_EARLIER_ABI8";
/// Where the sources and what is built of them are kept, below the root of the workspace.
const FOLDER: &str = "target/earlier";

/// A commit of this repository, by its full hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit(&'static str);

impl Commit {
    /// What people call it.
    fn short(self) -> &'static str {
        &self.0[..7]
    }
}

/// The portguard of a commit. The first call builds it, which takes a minute or more.
pub(crate) fn portguard(commit: Commit) -> Result<PathBuf> {
    let folder = workspace().join(FOLDER).join(commit.short());
    let target = folder.join("target");
    let program = target.join("debug/portguard");
    // cargo puts the program there when it is complete.
    if program.is_file() {
        return Ok(program);
    }
    let source = folder.join("source");
    if !source.is_dir() {
        unpack(workspace(), commit, &source)?;
    }
    share_dependencies(&workspace().join("target"), &target)?;
    eprintln!("building the portguard of commit {}", commit.short());
    let mut build = cargo();
    build
        .current_dir(&source)
        .args(["build", "--locked", "--package=portguard", "--target-dir"])
        .arg(&target);
    let built = build.status().context("cannot run cargo build")?;
    interrupt::check()?;
    ensure!(built.success(), "the portguard of commit {} does not build", commit.short());
    ensure!(program.is_file(), "cargo build has not made {}", program.display());
    Ok(program)
}

/// Gives a target folder what another one has built of the dependencies: cargo builds only those again that differ. The
/// packages of the workspace are left out, because cargo does not tell those of two commits apart.
fn share_dependencies(from: &Path, to: &Path) -> Result<()> {
    for part in ["debug/deps", "debug/build", "debug/.fingerprint"] {
        let (from, to) = (from.join(part), to.join(part));
        if !from.is_dir() || to.is_dir() {
            continue;
        }
        fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
        for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let is_own = |name: &str| name.contains("portguard") || name.contains("xtask");
            if name.to_str().is_none_or(is_own) {
                continue;
            }
            let copied = Command::new("cp").args(["-a", "--"]).arg(entry.path()).arg(&to).status();
            ensure!(copied.context("cannot run cp")?.success(), "cannot copy {}", entry.path().display());
        }
    }
    Ok(())
}

/// Puts the files of a commit into a folder, which is there only when it has all of them.
fn unpack(repository: &Path, commit: Commit, source: &Path) -> Result<()> {
    require(repository, commit)?;
    let partial = source.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let mut git = git(repository);
    let mut archive =
        git.args(["archive", commit.0]).stdout(Stdio::piped()).spawn().context("cannot run git archive")?;
    let output = archive.stdout.take().context("git archive has no output")?;
    let unpacked = Command::new("tar").arg("-xC").arg(&partial).stdin(output).status();
    let archived = archive.wait().context("cannot wait for git archive")?;
    ensure!(archived.success(), "git archive {} failed: {archived}", commit.short());
    let unpacked = unpacked.context("cannot run tar")?;
    ensure!(unpacked.success(), "tar cannot unpack commit {}: {unpacked}", commit.short());
    fs::rename(&partial, source).with_context(|| format!("cannot create {}", source.display()))
}

/// Fails if a clone lacks a commit.
fn require(repository: &Path, commit: Commit) -> Result<()> {
    let object = format!("{}^{{commit}}", commit.0);
    let found = git(repository).args(["cat-file", "-e", &object]).stderr(Stdio::null()).status();
    if !found.context("cannot run git")?.success() {
        bail!(
            "this clone lacks commit {}, whose guards are upgraded. Fetch it with: git fetch --unshallow",
            commit.short()
        );
    }
    Ok(())
}

fn git(repository: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repository);
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_without_the_commit_is_told_what_to_fetch() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let made = git(folder.path()).args(["init", "--quiet"]).status().expect("git");
        assert!(made.success());
        let source = folder.path().join("source");
        let error = unpack(folder.path(), ABI_4, &source).expect_err("an empty repository").to_string();
        assert!(error.contains("lacks commit e6a0683"), "{error}");
        assert!(error.contains("git fetch --unshallow"), "{error}");
        assert!(!source.exists());
    }
}
