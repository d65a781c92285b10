//! The archive for every distribution: the files, and scripts that install and remove them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::release::Release;
use crate::vm_test::output;
use crate::workspace;

/// What comes from the sources as it is.
const SOURCES: [&str; 14] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "deploy",
    "docs",
    "systemd",
    "packaging/install.sh",
    "packaging/uninstall.sh",
    "packaging/allowlist.yaml",
    "packaging/default",
];

/// Packs it into `folder`.
pub(super) fn pack(release: &Release, folder: &Path) -> Result<PathBuf> {
    let (name, temporary) = (release.name(), tempfile::tempdir()?);
    unpacked(release, &temporary.path().join(&name))?;
    let archive = folder.join(format!("{name}.tar.gz"));
    output(
        Command::new("tar")
            .args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .arg(format!("--mtime=@{}", release.epoch))
            .args(["--use-compress-program=gzip --no-name --best", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(temporary.path())
            .arg(name),
    )?;
    Ok(archive)
}

/// What is in it, in a folder.
pub(super) fn unpacked(release: &Release, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let sources = SOURCES.map(|source| workspace().join(source));
    output(Command::new("cp").arg("--recursive").args(sources).arg(folder))?;
    output(Command::new("cp").arg("--recursive").arg(release.manual.join(".")).arg(folder))?;
    fs::copy(&release.program, folder.join("portguard"))?;
    output(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(folder))?;
    Ok(())
}
