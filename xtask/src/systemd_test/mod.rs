//! `cargo xtask systemd-test`: the units under a real systemd, which is the first process of a virtual machine with
//! Debian's packages. They are started, reloaded, killed, stuck and stopped, while an allowed and a denied flow run.
//!
//! The machine is emulated, so that this works wherever QEMU does; its file system is in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::interrupt;
use xtask::lab::{Outcome, run_within};
use xtask::proof::figures::Figures;

use crate::document::rows;
use crate::reliability::{DOCUMENT, SYSTEMD};
use crate::setup::{self, Purpose};
use crate::vm_test::{Apt, Kernel, Series, install_module, mirror, output, pack};
use crate::{cargo, workspace};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/systemd-test";
/// The kernel: the one of the release whose systemd is the oldest that the units are for.
const KERNEL: &str = "6.1";
/// What the machine needs beside Debian's essential packages.
const PACKAGES: &str = "systemd-sysv,rpcbind,iproute2,kmod,tcpdump,procps";
/// How long the machine may run.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// The tests.
const SCRIPT: &str = include_str!("guest.sh");
/// A cable from `eth0` to a host outside, which has an address on the list and one that is not.
const LAB: &str = "\
#!/bin/bash -e
insmod /modules/veth.ko
ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev eth0
ip addr add 198.51.100.1/24 dev eth0
ip link set eth0 up
ip -n outside addr add 192.0.2.10/24 dev eth0
ip -n outside addr add 198.51.100.20/24 dev eth0
ip -n outside link set eth0 up
";
const LAB_UNIT: &str = "\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target portguard@eth0.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/test/lab
[Install]
WantedBy=multi-user.target
";
const TEST_UNIT: &str = "\
[Service]
ExecStart=/test/run
[Install]
WantedBy=multi-user.target
";

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
    let root = debian(&folder)?;
    let root = furnish(&root, &kernel, &folder)?;
    let initramfs = pack(&root, &folder.join("initramfs"))?;
    let console = boot(&kernel, &initramfs, &folder.join("console.log"))?;
    print!("{console}");
    judge(&console)
}

/// A minimal Debian of this machine's release, made once.
fn debian(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("debian");
    if root.is_dir() {
        return Ok(root);
    }
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let release =
        release.context("this machine has no release of Debian, whose libraries portguard is linked with")?;
    let partial = folder.join("debian.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    eprintln!("systemd-test: fetching Debian {release}");
    output(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), release])
            .arg(&partial)
            .arg(mirror()?),
    )?;
    fs::rename(&partial, &root)?;
    Ok(root)
}

/// A copy of it with portguard, its units, the lab and the tests.
fn furnish(debian: &Path, kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    output(Command::new("cp").arg("--archive").arg(debian).arg(&root))?;
    // What nobody reads would be in memory.
    for rubbish in ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt"] {
        let _ = fs::remove_dir_all(root.join(rubbish));
    }
    let write = |at: &str, text: &str, mode: u32| -> Result<()> {
        let path = root.join(at);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, text)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    write("etc/portguard/allowlist.yaml", "allow:\n  - 192.0.2.0/24\n", 0o644)?;
    write("test/lab", LAB, 0o755)?;
    write("test/run", SCRIPT, 0o755)?;
    write("etc/systemd/system/lab.service", LAB_UNIT, 0o644)?;
    write("etc/systemd/system/test.service", TEST_UNIT, 0o644)?;
    // Or this would be its first boot, on which every unit is enabled.
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444)?;
    fs::create_dir_all(root.join("modules"))?;
    install_module(kernel, "veth", &root)?;
    fs::copy(workspace().join("target/debug/portguard"), root.join("usr/sbin/portguard"))?;
    let units = workspace().join("systemd/.");
    output(Command::new("cp").arg("--recursive").arg(units).arg(root.join("etc/systemd/system")))?;
    let systemctl = |arguments: &[&str]| {
        output(Command::new("systemctl").arg("--root").arg(&root).args(arguments)).map(drop)
    };
    systemctl(&["enable", "lab.service", "test.service", "portguard@eth0.service", "rpcbind.socket"])?;
    systemctl(&["mask", "serial-getty@ttyS0.service", "getty@tty1.service"])?;
    Ok(root)
}

/// Runs the machine to its end. Returns what it printed.
fn boot(kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<String> {
    if log.exists() {
        fs::remove_file(log)?;
    }
    eprintln!("systemd-test: booting {}; console: {}", kernel.version, log.display());
    let mut command = Command::new("qemu-system-x86_64");
    // As in vm-test, which says why.
    command.args([
        "-accel",
        "tcg,thread=single",
        "-cpu",
        "max,cx16=off",
        "-m",
        "2560",
        "-no-reboot",
        "-nodefaults",
    ]);
    command.args(["-display", "none", "-serial"]).arg(format!("file:{}", log.display()));
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.args([
        "-append",
        "console=ttyS0 quiet loglevel=0 panic=-1 rdinit=/lib/systemd/systemd systemd.show_status=0 net.ifnames=0",
    ]);
    match run_within(LIMIT, &mut command)? {
        Outcome::Completed(done) => ensure!(done.status.success(), "QEMU failed: {}", done.stderr.trim()),
        Outcome::TimedOut => eprintln!("systemd-test: stopped after {} minutes", LIMIT.as_secs() / 60),
    }
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&text).replace('\r', ""))
}

/// Fails unless everything was tried, and held; writes it down.
fn judge(console: &str) -> Result<()> {
    let after = |mark: &str| console.lines().find_map(|line| line.strip_prefix(mark));
    ensure!(
        console.lines().any(|line| line == "COMPLETE"),
        "the machine did not come to the end of its tests"
    );
    let failed: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("FAIL ")).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    let checks = console.lines().filter(|line| line.starts_with("PASS ")).count();
    let figures = after("FIGURES ").context("no figures")?;
    let figures: Vec<u64> = figures.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [sent, allowed, denied] = figures[..] else { bail!("{figures:?} are no figures") };
    let figures = Figures::of("systemd")
        .with("checks that held", checks as u64)
        .with("denied packets sent", sent)
        .with("of them delivered", denied)
        .with("allowed packets sent", sent)
        .with("of them lost", sent - allowed);
    let machine = after("BEGIN ").context("it did not say what it is")?;
    DOCUMENT.write(SYSTEMD, &format!("{}\nIn the machine: {machine}.\n", rows(&figures)))
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_machine_that_stops_early_or_fails_is_no_success() {
        let error = |console: &str| judge(console).expect_err("it failed").to_string();
        assert!(error("BEGIN x\nPASS a\nFIGURES 1 1 0\n").contains("did not come to the end"));
        assert_eq!(error("PASS a\nFAIL b\nFAIL c\nCOMPLETE\n"), "failed: b; c");
        assert_eq!(error("PASS a\nCOMPLETE\n"), "no figures");
    }
}
