//! Hosts of a fleet: each a Debian with its own systemd, sshd and kernel network, in namespaces on this machine.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::net::{Host, Outcome, Process, Switch, run, run_within, wait_until};

use crate::machine;
use crate::vm_test::output;

/// What a host needs beside Debian's essential packages, to be reached and to be told what to do.
const PACKAGES: &str = "systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,rpcbind";
const BOOT: &str = include_str!("host.sh");
/// Booting takes seconds, on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(180);
const SSH: u16 = 22;
/// How long a command on a host may take.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Options of ssh: nobody is asked whether he knows a host that was made a moment ago.
pub(super) const OPTIONS: [&str; 8] = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "ControlMaster=no",
];

/// What all hosts are made of.
#[derive(Debug)]
pub(crate) struct Image {
    debian: PathBuf,
    script: PathBuf,
    /// The operator's key.
    pub(crate) key: PathBuf,
}

impl Image {
    /// A minimal Debian of this machine's release, made once, and a key for this run.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let debian = folder.join("debian");
        machine::debian(&debian, PACKAGES)?;
        Self::of(debian, folder)
    }

    /// One of a Debian that has systemd and sshd, with a key for this run.
    pub(crate) fn of(debian: PathBuf, folder: &Path) -> Result<Self> {
        let (script, key) = (folder.join("host.sh"), folder.join("key"));
        fs::write(&script, BOOT)?;
        for old in [&key, &key.with_extension("pub")] {
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key))?;
        Ok(Self { debian, script, key })
    }
}

/// A booted host.
#[derive(Debug)]
pub(crate) struct Booted {
    /// Its name in the inventory.
    pub(super) name: &'static str,
    pub(crate) address: IpAddr,
    // Dropped first: its end is the end of all processes of the host.
    process: Option<Process>,
    network: Host,
    cgroup: String,
    script: PathBuf,
}

impl Booted {
    /// Starts a host, which may not be up yet.
    pub(crate) fn start(image: &Image, switch: &Switch, name: &'static str, address: IpAddr) -> Result<Self> {
        let network = switch.host(name, &[address])?;
        let cgroup = format!("portguard-fleet-{}-{name}", std::process::id());
        let mut command = network.command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh"]).arg(&image.script);
        command.args(["start", &cgroup]).arg(&image.debian).arg(image.key.with_extension("pub"));
        let process = Some(Process::spawn(&mut command)?);
        Ok(Self { name, address, process, network, cgroup, script: image.script.clone() })
    }

    /// Waits until somebody can log in from another host.
    pub(crate) fn wait_for(&mut self, from: &Host) -> Result<()> {
        let address = SocketAddr::new(self.address, SSH);
        let process = self.process.as_mut().context("it has been started")?;
        process.ready("somebody answers on port 22", PATIENCE, || {
            Ok(from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).is_ok())
        })
    }
}

impl Booted {
    /// Runs a command on it, for who sits at another host and has the key. Returns what it printed.
    pub(crate) fn on(&self, desk: &Host, key: &Path, line: &str) -> Result<String> {
        let mut command = desk.command("ssh");
        command.args(OPTIONS).arg("-i").arg(key).arg(format!("root@{}", self.address)).arg(line);
        let Outcome::Completed(done) = run_within(LIMIT, &mut command)? else {
            bail!("{line} did not end within {LIMIT:?} on {}", self.name)
        };
        ensure!(done.status.success(), "{line} failed on {}: {}", self.name, done.stderr.trim());
        Ok(done.stdout)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        self.process = None;
        // The kernel ends the other processes of the host in its own time.
        let gone = wait_until("the host's cgroups can go", PATIENCE, || {
            let mut command = self.network.command("unshare");
            command.args(["--mount", "sh"]).arg(&self.script).args(["clean", &self.cgroup]);
            Ok(run(&mut command).is_ok())
        });
        if let Err(error) = gone {
            eprintln!("fleet-test: {error:#}");
        }
    }
}
