//! One boot of a machine with systemd: what it has beside Debian, and what it tries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::{built, interrupt};

use super::{ALLOWLIST, PACKAGES, boot, copy, debian, furnish, systemctl, write};
use crate::dist;
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

/// How portguard comes into a machine.
#[derive(Debug)]
pub(crate) enum Installation {
    /// This program, and the units of this tree.
    Copied(PathBuf),
    /// This package, by apt.
    Package(PathBuf),
}

impl Installation {
    /// What this tree builds for tests.
    pub(crate) fn copied() -> Result<Self> {
        Ok(Self::Copied(built::portguard()?))
    }

    /// The package of this tree's release.
    pub(crate) fn package() -> Result<Self> {
        setup::run_for(&setup::Args::default(), Purpose::Package)?;
        Ok(Self::Package(dist::make_here()?.deb.path))
    }

    /// Puts it into a root.
    fn install(&self, root: &Path) -> Result<()> {
        match self {
            Self::Copied(program) => {
                fs::copy(program, root.join("usr/sbin/portguard"))?;
                let units = workspace().join("systemd/.");
                output(
                    Command::new("cp").arg("--recursive").arg(units).arg(root.join("etc/systemd/system")),
                )?;
            }
            Self::Package(deb) => {
                fs::copy(deb, root.join("root/portguard.deb"))?;
                // apt needs these folders, and no list of packages: the machine has what the package depends on.
                for folder in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial"] {
                    fs::create_dir_all(root.join(folder))?;
                }
                let install = ["apt-get", "install", "--yes", "/root/portguard.deb"];
                output(Command::new("chroot").arg(root).args(install))?;
                fs::remove_file(root.join("root/portguard.deb"))?;
            }
        }
        Ok(())
    }
}

/// What the boots of a command begin with.
#[derive(Debug)]
pub(crate) struct Parts {
    installation: Installation,
    debian: PathBuf,
    apt: Apt,
    /// Where everything is made.
    folder: PathBuf,
}

impl Parts {
    /// Makes them in a folder below the root of the workspace, for the command of this name, with these packages beside those
    /// of every machine.
    pub(crate) fn make(
        command: &str,
        folder: &str,
        packages: &[&str],
        installation: fn() -> Result<Installation>,
    ) -> Result<Self> {
        ensure!(std::env::consts::ARCH == "x86_64", "{command} boots a kernel for x86_64");
        setup::run_for(&setup::Args::default(), Purpose::Systemd)?;
        interrupt::install().context("cannot handle Ctrl-C")?;
        let folder = workspace().join(folder);
        fs::create_dir_all(&folder)?;
        let installation = installation()?;
        let apt = Apt::update(folder.join("apt"))?;
        let root = folder.join("debian");
        debian(&root, &[&[PACKAGES, NFS_SERVER], packages].concat().join(","))?;
        Ok(Self { installation, debian: root, apt, folder })
    }

    /// The kernel of a series.
    pub(crate) fn kernel(&self, series: Series) -> Result<Kernel> {
        self.apt.kernel(series, &self.folder.join("kernels"))
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
    /// Boots, and returns what the machine printed. `more` puts what else it has below its root.
    pub(crate) fn run(
        &self,
        parts: &Parts,
        kernel: &Kernel,
        more: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<String> {
        let folder = &parts.folder;
        eprintln!("the boot \"{}\"", self.name);
        let root = self.furnish(parts, kernel)?;
        more(&root)?;
        let initramfs = pack(&root, &folder.join("initramfs"))?;
        let arguments = ["-m", "2560", "-no-reboot"];
        let parameters = "panic=-1 rdinit=/lib/systemd/systemd";
        let log = folder.join(format!("console-{}-{}.log", self.name, kernel.version));
        let console = boot(kernel, &initramfs, &arguments, parameters, self.limit, &log)?;
        print!("{console}");
        Ok(console)
    }

    /// A Debian with portguard, its units, the testbed and the tests.
    fn furnish(&self, parts: &Parts, kernel: &Kernel) -> Result<PathBuf> {
        let root = parts.folder.join("root");
        copy(&parts.debian, &root, &UNREAD)?;
        parts.installation.install(&root)?;
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
        let unit = format!("portguard@{}.service", self.interface);
        systemctl(&root, &["enable", &unit, "rpcbind.socket"])?;
        let server = if self.exports.is_some() { "enable" } else { "disable" };
        systemctl(&root, &[server, "nfs-server.service"])?;
        Ok(root)
    }
}
