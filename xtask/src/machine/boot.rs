//! One boot of a machine with systemd: what it has beside Debian, and what it tries.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::{built, interrupt};

use super::{ALLOWLIST, KERNEL, PACKAGES, boot, copy, debian, furnish, systemctl, write};
use crate::setup::{self, Purpose};
use crate::vm_test::{Apt, Kernel, Series, install_module, output, pack};
use crate::workspace;

/// What nobody reads would be in memory.
const UNREAD: [&str; 5] =
    ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt"];
/// The file systems of the NFS server need its modules, which nothing loads when they are asked for.
const MODULES_FIRST: &str = "[Unit]\nBefore=proc-fs-nfsd.mount run-rpc_pipefs.mount\n";

/// An NFS server, which registers its services at rpcbind.
const NFS_SERVER: &str = "nfs-kernel-server";
/// The modules of the kernel's NFS server and client, in the order in which they are loaded.
const NFS_MODULES: [&str; 11] =
    ["tls", "sunrpc", "grace", "lockd", "nfs_acl", "auth_rpcgss", "nfsd", "netfs", "fscache", "nfs", "nfsv3"];

/// What the boots of a command begin with.
#[derive(Debug)]
pub(crate) struct Parts {
    portguard: PathBuf,
    debian: PathBuf,
    kernel: Kernel,
    /// Where everything is made.
    folder: PathBuf,
}

impl Parts {
    /// Makes them in a folder below the root of the workspace, for the command of this name.
    pub(crate) fn make(command: &str, folder: &str) -> Result<Self> {
        ensure!(std::env::consts::ARCH == "x86_64", "{command} boots a kernel for x86_64");
        setup::run_for(&setup::Args::default(), Purpose::Systemd)?;
        interrupt::install().context("cannot handle Ctrl-C")?;
        let folder = workspace().join(folder);
        fs::create_dir_all(&folder)?;
        let portguard = built::portguard()?;
        let series = Series::named(KERNEL).map_err(anyhow::Error::msg)?;
        let kernel = Apt::update(folder.join("apt"))?.kernel(series, &folder.join("kernels"))?;
        let root = folder.join("debian");
        debian(&root, &format!("{PACKAGES},{NFS_SERVER}"))?;
        Ok(Self { portguard, debian: root, kernel, folder })
    }
}

/// One boot of the machine.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) name: &'static str,
    /// What is guarded.
    pub(crate) interface: &'static str,
    /// The tests.
    pub(crate) script: &'static str,
    /// What this boot has beside the others, and where.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// The modules of the kernel that it needs beside the testbed's.
    pub(crate) modules: &'static [&'static str],
    /// What the NFS server exports, if it runs.
    pub(crate) exports: Option<&'static str>,
    /// How long the machine may run.
    pub(crate) limit: Duration,
}

impl Boot {
    /// Boots, and returns what the machine printed.
    pub(crate) fn run(&self, parts: &Parts) -> Result<String> {
        let Parts { kernel, folder, .. } = parts;
        eprintln!("the boot \"{}\"", self.name);
        let root = self.furnish(parts)?;
        let initramfs = pack(&root, &folder.join("initramfs"))?;
        let arguments = ["-m", "2560", "-no-reboot"];
        let parameters = "panic=-1 rdinit=/lib/systemd/systemd";
        let log = folder.join(format!("console-{}.log", self.name));
        let console = boot(kernel, &initramfs, &arguments, parameters, self.limit, &log)?;
        print!("{console}");
        Ok(console)
    }

    /// A Debian with portguard, its units, the testbed and the tests.
    fn furnish(&self, Parts { portguard, debian, kernel, folder }: &Parts) -> Result<PathBuf> {
        let root = folder.join("root");
        copy(debian, &root, &UNREAD)?;
        furnish(&root, kernel, &format!("IFACE={}\n{}", self.interface, self.script))?;
        let nfs: &[&str] = if self.exports.is_some() { &NFS_MODULES } else { &[] };
        for module in nfs.iter().chain(self.modules) {
            // What is missing is built in, or a test fails.
            let _ = install_module(kernel, module, &root);
        }
        for (path, text) in self.files {
            let mode = if path.starts_with("test/") { 0o755 } else { 0o644 };
            write(&root, path, text, mode)?;
        }
        if let Some(exports) = self.exports {
            write(&root, "etc/exports", exports, 0o644)?;
            write(&root, "etc/systemd/system/testbed.service.d/modules.conf", MODULES_FIRST, 0o644)?;
        }
        write(&root, "etc/portguard/allowlist.yaml", ALLOWLIST, 0o644)?;
        fs::copy(portguard, root.join("usr/sbin/portguard"))?;
        let units = workspace().join("systemd/.");
        output(Command::new("cp").arg("--recursive").arg(units).arg(root.join("etc/systemd/system")))?;
        let unit = format!("portguard@{}.service", self.interface);
        systemctl(&root, &["enable", &unit, "rpcbind.socket"])?;
        let server = if self.exports.is_some() { "enable" } else { "disable" };
        systemctl(&root, &[server, "nfs-server.service"])?;
        Ok(root)
    }
}
