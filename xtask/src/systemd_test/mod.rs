//! `cargo xtask systemd-test`: the units under a real systemd, which is the first process of a virtual machine with
//! Debian's packages. They are started, reloaded, killed, stuck and stopped, while an allowed and a denied flow run.
//!
//! The file system of the machine is in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::interrupt;

use crate::document::rows;
use crate::machine::{self, ALLOWLIST, KERNEL, PACKAGES};
use crate::reliability::{DOCUMENT, SYSTEMD};
use crate::setup::{self, Purpose};
use crate::vm_test::{Apt, Kernel, Series, output, pack};
use crate::{cargo, workspace};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/systemd-test";
/// How long the machine may run.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// The tests.
const SCRIPT: &str = include_str!("guest.sh");
/// What nobody reads would be in memory.
const RUBBISH: [&str; 5] =
    ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt"];

/// Boots the machine, reads what it tells, and writes it down.
pub(crate) fn run() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "systemd-test boots a kernel for x86_64");
    setup::run_for(&setup::Args::default(), Purpose::Systemd)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    let folder = workspace().join(FOLDER);
    fs::create_dir_all(&folder)?;
    ensure!(
        cargo().args(["build", "--locked", "--package=portguard"]).status()?.success(),
        "it does not build"
    );
    let series = Series::named(KERNEL).map_err(anyhow::Error::msg)?;
    let kernel = Apt::update(folder.join("apt"))?.kernel(series, &folder.join("kernels"))?;
    let root = furnish(&kernel, &folder)?;
    let initramfs = pack(&root, &folder.join("initramfs"))?;
    let arguments = ["-m", "2560", "-no-reboot"];
    let parameters = "panic=-1 rdinit=/lib/systemd/systemd";
    let console =
        machine::boot(&kernel, &initramfs, &arguments, parameters, LIMIT, &folder.join("console.log"))?;
    print!("{console}");
    let told = machine::judge(&console, "systemd")?;
    DOCUMENT.write(SYSTEMD, &format!("{}\nIn the machine: {}.\n", rows(&told.figures), told.machine))
}

/// A Debian with portguard, its units, the lab and the tests.
fn furnish(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let (debian, root) = (folder.join("debian"), folder.join("root"));
    machine::debian(&debian, PACKAGES)?;
    machine::copy(&debian, &root, &RUBBISH)?;
    machine::furnish(&root, kernel, SCRIPT)?;
    machine::write(&root, "etc/portguard/allowlist.yaml", ALLOWLIST, 0o644)?;
    fs::copy(workspace().join("target/debug/portguard"), root.join("usr/sbin/portguard"))?;
    let units = workspace().join("systemd/.");
    output(Command::new("cp").arg("--recursive").arg(units).arg(root.join("etc/systemd/system")))?;
    machine::systemctl(&root, &["enable", "portguard@eth0.service", "rpcbind.socket"])?;
    Ok(root)
}
