//! Hosts of a fleet: each a Debian with its own systemd, sshd and kernel network, in namespaces on this machine.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portguard_testkit::net::{Host, Process, Switch, run, wait_until};

use crate::machine;
use crate::vm_test::output;

/// What a host needs beside Debian's essential packages, to be reached and to be told what to do.
const PACKAGES: &str = "systemd-sysv,dbus,openssh-server,python3,python3-apt,iproute2,rpcbind";
const BOOT: &str = include_str!("host.sh");
/// Booting takes seconds, on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(180);
const SSH: u16 = 22;

/// What all hosts are made of.
#[derive(Debug)]
pub(super) struct Image {
    debian: PathBuf,
    script: PathBuf,
    /// The operator's key.
    pub(super) key: PathBuf,
}

impl Image {
    /// A minimal Debian of this machine's release, made once, and a key for this run.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let (debian, script, key) = (folder.join("debian"), folder.join("host.sh"), folder.join("key"));
        machine::debian(&debian, PACKAGES)?;
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
pub(super) struct Booted {
    /// Its name in the inventory.
    pub(super) name: &'static str,
    pub(super) address: IpAddr,
    // Dropped first: its end is the end of all processes of the host.
    process: Option<Process>,
    network: Host,
    cgroup: String,
    script: PathBuf,
}

impl Booted {
    /// Starts a host, which may not be up yet.
    pub(super) fn start(image: &Image, switch: &Switch, name: &'static str, address: IpAddr) -> Result<Self> {
        let network = switch.host(name, &[address])?;
        let cgroup = format!("portguard-fleet-{}-{name}", std::process::id());
        let mut command = network.command("unshare");
        command.args(["--mount", "--propagation", "slave", "sh"]).arg(&image.script);
        command.args(["start", &cgroup]).arg(&image.debian).arg(image.key.with_extension("pub"));
        let process = Some(Process::spawn(&mut command)?);
        Ok(Self { name, address, process, network, cgroup, script: image.script.clone() })
    }

    /// Waits until somebody can log in from another host.
    pub(super) fn wait_for(&mut self, from: &Host) -> Result<()> {
        let address = SocketAddr::new(self.address, SSH);
        let process = self.process.as_mut().context("it has been started")?;
        process.ready("somebody answers on port 22", PATIENCE, || {
            Ok(from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1))).is_ok())
        })
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
