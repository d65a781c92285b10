//! `cargo xtask readme-test`: the first contact. In a minimal Debian, the command of README.md that shows portguard at work is
//! typed as it is written there, with the cargo of the release, which is too old. What the refusal tells is done, and the command
//! is typed again. What that costs is written into README.md.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use portguard_testkit::document::Document;
use portguard_testkit::interrupt;
use portguard_testkit::net::{Completed, Outcome, run_within};

use crate::documented;
use crate::machine::{self, RELEASES};
use crate::setup::{self, Purpose};
use crate::vm_test::{mirrors, output};
use crate::{test, workspace};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/readme-test";
/// The key of the costs in README.md.
const KEY: &str = "cost";
/// How long a command may run: several times as long as it takes where others want the CPU, too.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// What this machine trusts, so that the registries are reached as from here.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Runs a command in a root, as if it were a machine: with a kernel's file systems, and on the network of this machine. A chroot
/// would not do: whoever enters its mount namespace would be in the root of this machine.
const ENTER: &str = "\
cd \"$1\"
mount --bind . .
cd \"$1\"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount --rbind /dev dev
mkdir old
pivot_root . old
umount --lazy /old
rmdir /old
exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive sh -c \"$2\"";

/// Tries it on each release.
pub(crate) fn run() -> Result<()> {
    setup::run_for(&setup::Args::default(), Purpose::Systemd)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    test::require_preconditions()?;
    let folder = workspace().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let command = documented::command("cargo xtask")?;
    let mut text = "| | packages | disk | processor time |\n|---|---:|---:|---:|\n".to_owned();
    for (release, number) in RELEASES {
        let cost =
            Fresh::make(release, &folder)?.meet(&command).with_context(|| format!("Debian {number}"))?;
        let minutes = cost.processor.as_secs().div_ceil(60);
        writeln!(text, "| Debian {number} | {} | {} MB | {minutes} minutes |", cost.packages, cost.disk)?;
    }
    let text = format!("{text}\nMeasured by `cargo xtask readme-test`.");
    Document(documented::README).write(KEY, &text)
}

/// What the first contact takes.
#[derive(Debug)]
struct Cost {
    packages: usize,
    /// In megabytes.
    disk: u64,
    /// Of this, a machine has as much a minute as it has processors; what else it does has no influence.
    processor: Duration,
}

/// A Debian that has never seen portguard.
#[derive(Debug)]
struct Fresh {
    root: PathBuf,
}

impl Fresh {
    /// A minimal one, with a clean clone of the sources in root's home.
    fn make(release: &str, folder: &Path) -> Result<Self> {
        let debian = folder.join(release);
        machine::debian_of(release, &debian, "ca-certificates")?;
        let root = folder.join("root");
        machine::copy(&debian, &root, &[])?;
        let (main, security) = mirrors()?;
        let sources = format!("deb {main} {release} main\ndeb {security} {release}-security main\n");
        fs::write(root.join("etc/apt/sources.list"), sources)?;
        for file in [CERTIFICATES, "etc/resolv.conf"] {
            fs::copy(Path::new("/").join(file), root.join(file))?;
        }
        output(
            Command::new("git").args(["clone", "--quiet"]).arg(workspace()).arg(root.join("root/portguard")),
        )?;
        Ok(Self { root })
    }

    /// Types the command as somebody does who has the cargo of the release, and then what the refusal tells.
    fn meet(&self, command: &str) -> Result<Cost> {
        self.must("apt-get update")?;
        let (packages, disk) = (self.packages()?, self.disk()?);
        self.must("apt-get install --yes --no-install-recommends cargo")?;
        let refused = self.type_in(&format!("cd portguard && {command}"))?;
        ensure!(!refused.status.success(), "the cargo of the release is new enough");
        eprintln!("readme-test: {}", refused.stderr.trim());
        ensure!(refused.stderr.starts_with("error: portguard needs cargo "), "that is no help");
        let remedy = refused.stderr.lines().map(str::trim).find(|line| line.starts_with("apt-get install "));
        let remedy = remedy.context("it does not say what to install")?;
        ensure!(
            remedy == documented::command("apt-get install ")?,
            "README.md tells something else: {remedy}"
        );
        eprintln!("readme-test: {remedy}");
        let spent = processor_time()?;
        self.must(&format!("yes | {remedy}"))?;
        eprintln!("readme-test: {command}");
        let shown = self.must(&format!("cd portguard && {command}"))?;
        ensure!(shown.stdout.contains("no answer in"), "nobody was denied: {}", shown.stdout);
        print!("{}", shown.stdout);
        self.masks_are_told()?;
        let processor = processor_time()? - spent;
        let cost = Cost { packages: self.packages()? - packages, disk: self.disk()? - disk, processor };
        fs::remove_dir_all(&self.root)?;
        Ok(cost)
    }

    /// What README.md says of the units that are masked is so.
    fn masks_are_told(&self) -> Result<()> {
        let readme = fs::read_to_string(workspace().join(documented::README))?;
        for entry in fs::read_dir(self.root.join("etc/systemd/system"))? {
            let entry = entry?;
            let unit = entry.file_name().display().to_string();
            let masked = entry.path().is_symlink() && fs::read_link(entry.path())? == Path::new("/dev/null");
            ensure!(
                !masked || readme.contains(&format!("`{unit}`")),
                "README.md does not say that {unit} is masked"
            );
        }
        Ok(())
    }

    fn packages(&self) -> Result<usize> {
        let status = fs::read_to_string(self.root.join("var/lib/dpkg/status"))?;
        Ok(status.lines().filter(|line| *line == "Status: install ok installed").count())
    }

    /// What it takes on the disk, in megabytes.
    fn disk(&self) -> Result<u64> {
        let printed = output(Command::new("du").args(["--summarize", "--block-size=MB"]).arg(&self.root))?;
        let number = printed.split("MB").next().unwrap_or_default();
        number.parse().with_context(|| format!("du prints {printed}"))
    }

    /// Types a line that has to succeed.
    fn must(&self, line: &str) -> Result<Completed> {
        let done = self.type_in(line)?;
        ensure!(done.status.success(), "{line} failed ({}): {}{}", done.status, done.stdout, done.stderr);
        Ok(done)
    }

    /// Types a line in root's home.
    fn type_in(&self, line: &str) -> Result<Completed> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", ENTER, "sh"]);
        command.arg(&self.root).arg(format!("cd && {line}"));
        match run_within(LIMIT, &mut command)? {
            Outcome::Completed(done) => Ok(done),
            Outcome::TimedOut => bail!("{line} did not end within {LIMIT:?}"),
        }
    }
}

/// What the processes that this one has waited for have taken so far.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for the processor time")?;
    let seconds = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    Ok(Duration::from_secs(seconds.try_into()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use crate::{cargo, workspace};

    /// `cargo xtask readme-test` does so with the real ones.
    #[test]
    fn an_old_cargo_is_told_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = folder.path().join("cargo");
        fs::write(&old, "#!/bin/sh\necho cargo 1.65.0\n").expect("a cargo");
        fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).expect("a program");
        let target = workspace().join("target/start");
        let built = cargo()
            .args(["build", "--quiet", "--locked", "--manifest-path=xtask/start/Cargo.toml", "--target-dir"])
            .arg(&target)
            .status();
        assert!(built.expect("cargo runs").success());
        let refused = Command::new(target.join("debug/start")).env("CARGO", old).output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let wanted = env!("CARGO_PKG_RUST_VERSION");
        assert!(
            said.starts_with(&format!(
                "error: portguard needs cargo {wanted} or newer, and this is cargo 1.65.0\n"
            )),
            "{said}"
        );
        assert!(said.contains("apt-get install --no-install-recommends cargo-web\n"), "{said}");
        assert!(!refused.status.success());
    }
}
