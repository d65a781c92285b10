//! A virtual machine with Debian's packages and systemd as its first process, in which a script tries something and tells
//! on the console how it went; what `systemd-test` and `dist-test` share.
//!
//! The machine is emulated, so that this works wherever QEMU does.

mod boot;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::figures::Figures;
use portguard_testkit::net::{Outcome, run_within};

pub(crate) use self::boot::{Boot, Installation, Parts};
use crate::vm_test::{Kernel, install_module, mirror, output};

/// The kernel: the one of the release whose systemd is the oldest that the units are for.
pub(crate) const KERNEL: &str = "6.1";
/// What a machine needs beside Debian's essential packages.
pub(crate) const PACKAGES: &str = "systemd-sysv,rpcbind,iproute2,kmod,tcpdump,procps";
/// The releases of Debian that a user may have, by name and by number.
pub(crate) const RELEASES: [(&str, &str); 2] = [("bookworm", "12"), ("trixie", "13")];
/// What the scripts of machines begin with.
pub(crate) const FUNCTIONS: &str = include_str!("functions.sh");
/// The allowlist of machines.
pub(crate) const ALLOWLIST: &str = "allow:\n  - 192.0.2.0/24\n";
/// A cable from `eth0` to a host outside, which has an address on the list and one that is not.
const TESTBED: &str = "\
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
const TESTBED_UNIT: &str = "\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target portguard@eth0.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/test/testbed
[Install]
WantedBy=multi-user.target
";
const TEST_UNIT: &str = "\
[Service]
ExecStart=/test/run
[Install]
WantedBy=multi-user.target
";

/// A minimal Debian of this machine's release with these packages, made once.
pub(crate) fn debian(root: &Path, packages: &str) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let release =
        release.context("this machine has no release of Debian, whose libraries portguard is linked with")?;
    debian_of(release, root, packages)
}

/// A minimal Debian of a release with these packages, made once, and anew for others.
pub(crate) fn debian_of(release: &str, root: &Path, packages: &str) -> Result<()> {
    let made_of = root.with_extension("packages");
    let wanted = format!("{release} {packages}\n");
    if root.is_dir() && fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == wanted) {
        return Ok(());
    }
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    eprintln!("fetching Debian {release}");
    output(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={packages}"), release])
            .arg(&partial)
            .arg(mirror()?),
    )?;
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::rename(&partial, root)?;
    Ok(fs::write(&made_of, wanted)?)
}

/// A copy of a root, without the folders that nobody reads.
pub(crate) fn copy(debian: &Path, root: &Path, unread: &[&str]) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    output(Command::new("cp").arg("--archive").arg(debian).arg(root))?;
    for folder in unread {
        let _ = fs::remove_dir_all(root.join(folder));
    }
    Ok(())
}

/// Writes a file below a root.
pub(crate) fn write(root: &Path, at: &str, text: &str, mode: u32) -> Result<()> {
    let path = root.join(at);
    fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

/// Runs `systemctl` on a root.
pub(crate) fn systemctl(root: &Path, arguments: &[&str]) -> Result<()> {
    output(Command::new("systemctl").arg("--root").arg(root).args(arguments)).map(drop)
}

/// Puts the testbed and the script into a root; they start by themselves.
pub(crate) fn furnish(root: &Path, kernel: &Kernel, script: &str) -> Result<()> {
    write(root, "test/testbed", TESTBED, 0o755)?;
    write(root, "test/run", &format!("{FUNCTIONS}{script}"), 0o755)?;
    write(root, "etc/systemd/system/testbed.service", TESTBED_UNIT, 0o644)?;
    write(root, "etc/systemd/system/test.service", TEST_UNIT, 0o644)?;
    // Or this would be its first boot, on which every unit is enabled.
    write(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444)?;
    fs::create_dir_all(root.join("modules"))?;
    install_module(kernel, "veth", root)?;
    systemctl(root, &["enable", "testbed.service", "test.service"])?;
    systemctl(root, &["mask", "serial-getty@ttyS0.service", "getty@tty1.service"])
}

/// Runs the machine to its end, or for so long; `arguments` are for QEMU, `parameters` for the kernel. Returns what it
/// printed, which is kept in `log`.
pub(crate) fn boot(
    kernel: &Kernel,
    initramfs: &Path,
    arguments: &[&str],
    parameters: &str,
    limit: Duration,
    log: &Path,
) -> Result<String> {
    if log.exists() {
        fs::remove_file(log)?;
    }
    eprintln!("booting {}; console: {}", kernel.version, log.display());
    let mut command = Command::new("qemu-system-x86_64");
    // As in vm-test, which says why.
    command.args(["-accel", "tcg,thread=single", "-cpu", "max,cx16=off", "-nodefaults"]).args(arguments);
    command.args(["-display", "none", "-serial"]).arg(format!("file:{}", log.display()));
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    let always = "console=ttyS0 quiet loglevel=0 systemd.show_status=0 net.ifnames=0";
    command.arg("-append").arg(format!("{always} {parameters}"));
    match run_within(limit, &mut command)? {
        Outcome::Completed(done) => ensure!(done.status.success(), "QEMU failed: {}", done.stderr.trim()),
        Outcome::TimedOut => eprintln!("stopped after {} minutes", limit.as_secs() / 60),
    }
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&text).replace('\r', ""))
}

/// What is written down of a machine: its figures, and what it is.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) figures: Figures,
    pub(crate) machine: String,
}

/// Fails unless the machine came to the end of its tests.
pub(crate) fn complete(console: &str) -> Result<()> {
    ensure!(
        console.lines().any(|line| line == "COMPLETE"),
        "the machine did not come to the end of its tests"
    );
    Ok(())
}

/// Fails unless everything was tried, and held. Returns the number of checks.
pub(crate) fn held(console: &str) -> Result<usize> {
    complete(console)?;
    let failed: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("FAIL ")).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    let checks = console.lines().filter(|line| line.starts_with("PASS ")).count();
    ensure!(checks > 0, "the machine checked nothing");
    Ok(checks)
}

/// As [`held`], of a machine with flows.
pub(crate) fn judge(console: &str, name: &'static str) -> Result<Told> {
    let after = |mark: &str| console.lines().find_map(|line| line.strip_prefix(mark));
    let checks = held(console)?;
    let figures = after("FIGURES ").context("no figures")?;
    let figures: Vec<u64> = figures.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [sent, allowed, denied] = figures[..] else { bail!("{figures:?} are no figures") };
    let figures = Figures::of(name)
        .with("checks that held", checks as u64)
        .with("denied packets sent", sent)
        .with("of them delivered", denied)
        .with("allowed packets sent", sent)
        .with("of them lost", sent - allowed);
    Ok(Told { figures, machine: after("BEGIN ").context("it did not say what it is")?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_machine_that_stops_early_or_fails_is_no_success() {
        let error = |console: &str| judge(console, "it").expect_err("it failed").to_string();
        assert!(error("BEGIN x\nPASS a\nFIGURES 1 1 0\n").contains("did not come to the end"));
        assert_eq!(error("PASS a\nFAIL b\nFAIL c\nCOMPLETE\n"), "failed: b; c");
        assert_eq!(error("PASS a\nCOMPLETE\n"), "no figures");
        assert_eq!(error("COMPLETE\n"), "the machine checked nothing");
        let told = judge("BEGIN x\nPASS a\nFIGURES 3 2 1\nCOMPLETE\n", "it").expect("it is complete");
        assert_eq!(told.machine, "x");
        assert_eq!(told.figures.numbers().last().map(|(_, lost)| *lost), Some(1));
    }
}
