//! The package for Debian, by cargo-deb, from what `portguard/Cargo.toml` says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::release::{FOLDER, PROFILE, Release};
use crate::vm_test::output;
use crate::{cargo, workspace};

/// How often this version has been packed.
pub(crate) const REVISION: u32 = 1;

/// A package.
#[derive(Debug)]
pub(crate) struct Deb {
    /// The file.
    pub(crate) path: PathBuf,
}

/// Packs it into `folder`.
pub(crate) fn build(release: &Release, revision: u32, folder: &Path) -> Result<Deb> {
    let version = format!("{}-{revision}", release.version);
    let date = output(
        Command::new("date").args(["--utc", "--rfc-email"]).arg(format!("--date=@{}", release.epoch)),
    )?;
    let changelog = format!(
        "portguard ({version}) unstable; urgency=medium\n\n  * What has changed is in CHANGELOG.md of the sources.\n\n \
         -- {}  {date}",
        release.maintainer
    );
    fs::write(workspace().join(FOLDER).join("changelog"), changelog)?;
    let mut command = cargo();
    command.args(["deb", "--quiet", "--package=portguard", "--no-build", "--no-strip", "--locked"]);
    command.args([
        "--profile",
        PROFILE,
        "--target",
        &release.architecture.target(),
        "--deb-version",
        &version,
    ]);
    command.arg("--maintainer").arg(&release.maintainer).arg("--output").arg(folder);
    command.env("CARGO_TARGET_DIR", FOLDER).env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    let printed = output(&mut command)?;
    let path = printed.lines().last().context("cargo-deb names no package")?;
    Ok(Deb { path: PathBuf::from(path.trim()) })
}
