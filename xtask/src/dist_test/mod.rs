//! `cargo xtask dist-test`: a release as its users meet it. The package is judged by lintian, installed into clean
//! Debians, and purged without a trace; in a machine with systemd it is installed, enabled, rebooted, upgraded under
//! traffic, removed and purged, and so is the archive; and Ansible brings it to two hosts that a Prometheus watches.

mod clean;
mod image;
mod machine;
mod oldest;
mod program;
mod quiet;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::interrupt;

use crate::dist::{self, Release};
use crate::fleet_test::{self, Delivery};
use crate::machine::{PACKAGES, debian};
use crate::setup::{self, Purpose};
use crate::vm_test::output;
use crate::workspace;
use portguard_testkit::document::{Document, rows};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/dist-test";
/// What packagers and operators read, and the key of the figures in it.
const DOCUMENT: Document = Document("docs/packaging.md");
const KEY: &str = "dist";

/// Tries a release.
pub(crate) fn run() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "dist-test boots a kernel for x86_64");
    setup::run_for(&setup::Args::default(), Purpose::Distribution)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    let folder = workspace().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let made = dist::make_here()?;
    sums()?;
    program::check(&made.release)?;
    oldest::check(&made.release, &folder)?;
    image::check(&folder)?;
    lint(&made.deb)?;
    clean::check(&made.deb, &folder)?;
    let root = folder.join("debian");
    debian(&root, PACKAGES)?;
    let told = machine::check(&made, &root, &folder)?;
    fleet_test::check(Delivery::Package(&made.deb.path))?;
    DOCUMENT.write(KEY, &format!("{}\nIn the machine: {}.\n", rows(&told.figures), told.machine))
}

/// The checksums are those of the files.
fn sums() -> Result<()> {
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--strict", "--quiet", dist::SUMS]).current_dir(workspace().join(dist::FOLDER));
    output(&mut command).map(drop)
}

/// lintian finds no errors; what else it says is shown.
fn lint(deb: &dist::Deb) -> Result<()> {
    eprintln!("dist-test: lintian");
    let mut command = Command::new("lintian");
    command.args(["--allow-root", "--fail-on", "error", "--tag-display-limit", "0"]).arg(&deb.path);
    print!("{}", output(&mut command)?);
    Ok(())
}
