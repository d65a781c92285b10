//! `cargo xtask systemd-test`: the units under a real systemd, which is the first process of a virtual machine with
//! Debian's packages. It boots several times: with an interface that is there from the beginning, where the service is
//! started, reloaded, killed, stuck and stopped while an allowed and a denied flow run; and with interfaces that come
//! later.
//!
//! The file system of the machine is in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::document::rows;
use portguard_testkit::{built, interrupt};

use crate::machine::{self, ALLOWLIST, KERNEL, PACKAGES};
use crate::reliability::{DOCUMENT, SYSTEMD};
use crate::setup::{self, Purpose};
use crate::vm_test::{Apt, Kernel, Series, install_module, output, pack};
use crate::workspace;

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/systemd-test";
/// How long a machine may run.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// An NFS server, which registers its services at rpcbind.
const SERVER: &str = "nfs-kernel-server";
/// The boots.
const BOOTS: [Boot; 3] = [
    Boot {
        name: "there",
        interface: "eth0",
        script: include_str!("guest.sh"),
        files: &[],
        // doctor asks which units the sockets belong to.
        modules: &["inet_diag", "tcp_diag", "udp_diag"],
    },
    Boot {
        name: "late",
        interface: "bond0",
        script: include_str!("late.sh"),
        files: &[
            ("test/testbed", include_str!("late_testbed.sh")),
            // To both clients: it is the guard that makes the difference.
            ("etc/exports", "/srv 192.0.2.0/24(ro,fsid=1) 198.51.100.0/24(ro,fsid=1)\n"),
            ("etc/systemd/system/testbed.service.d/modules.conf", MODULES_FIRST),
        ],
        modules: &[
            "tls",
            "bonding",
            "sunrpc",
            "grace",
            "lockd",
            "nfs_acl",
            "auth_rpcgss",
            "nfsd",
            "netfs",
            "fscache",
            "nfs",
            "nfsv3",
        ],
    },
    Boot {
        name: "race",
        interface: "eth0",
        script: include_str!("race.sh"),
        files: &[
            ("etc/systemd/system/testbed.service", RACE_UNIT),
            ("test/race", include_str!("race_testbed.sh")),
            ("etc/default/portguard-eth0", "PORTGUARD_OPTIONS=--audit\n"),
        ],
        modules: &[],
    },
];
/// The file systems of the NFS server need its modules, which nothing loads when they are asked for.
const MODULES_FIRST: &str = "[Unit]\nBefore=proc-fs-nfsd.mount run-rpc_pipefs.mount\n";
/// Makes the interface when the service is ready, and before the guard is checked.
const RACE_UNIT: &str = "\
[Unit]
DefaultDependencies=no
After=portguard@eth0.service
Before=portguard-is-on@eth0.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/test/race
[Install]
WantedBy=multi-user.target
";
/// What nobody reads would be in memory.
const UNREAD: [&str; 5] =
    ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt"];

/// Boots the machine, reads what it tells, and writes it down.
pub(crate) fn run() -> Result<()> {
    ensure!(std::env::consts::ARCH == "x86_64", "systemd-test boots a kernel for x86_64");
    setup::run_for(&setup::Args::default(), Purpose::Systemd)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    let folder = workspace().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let portguard = built::portguard()?;
    let series = Series::named(KERNEL).map_err(anyhow::Error::msg)?;
    let kernel = Apt::update(folder.join("apt"))?.kernel(series, &folder.join("kernels"))?;
    let debian = folder.join("debian");
    machine::debian(&debian, &format!("{PACKAGES},{SERVER}"))?;
    let mut consoles = String::new();
    for boot in &BOOTS {
        let console = boot.run(&portguard, &debian, &kernel, &folder)?;
        machine::complete(&console).with_context(|| format!("the boot \"{}\"", boot.name))?;
        consoles += &console;
    }
    let told = machine::judge(&consoles, "systemd")?;
    DOCUMENT.write(SYSTEMD, &format!("{}\nIn the machine: {}.\n", rows(&told.figures), told.machine))
}

/// One boot of the machine.
#[derive(Debug)]
struct Boot {
    name: &'static str,
    /// What is guarded.
    interface: &'static str,
    /// The tests.
    script: &'static str,
    /// What this boot has beside the others, and where.
    files: &'static [(&'static str, &'static str)],
    /// The modules of the kernel that it needs beside the testbed's.
    modules: &'static [&'static str],
}

impl Boot {
    /// Boots, and returns what the machine printed.
    fn run(&self, portguard: &Path, debian: &Path, kernel: &Kernel, folder: &Path) -> Result<String> {
        eprintln!("systemd-test: the boot \"{}\"", self.name);
        let root = self.furnish(portguard, debian, kernel, folder)?;
        let initramfs = pack(&root, &folder.join("initramfs"))?;
        let arguments = ["-m", "2560", "-no-reboot"];
        let parameters = "panic=-1 rdinit=/lib/systemd/systemd";
        let log = folder.join(format!("console-{}.log", self.name));
        let console = machine::boot(kernel, &initramfs, &arguments, parameters, LIMIT, &log)?;
        print!("{console}");
        Ok(console)
    }

    /// A Debian with portguard, its units, the testbed and the tests.
    fn furnish(&self, portguard: &Path, debian: &Path, kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
        let root = folder.join("root");
        machine::copy(debian, &root, &UNREAD)?;
        machine::furnish(&root, kernel, &format!("IFACE={}\n{}", self.interface, self.script))?;
        for module in self.modules {
            // What is missing is built in, or a test fails.
            let _ = install_module(kernel, module, &root);
        }
        for (path, text) in self.files {
            let mode = if path.starts_with("test/") { 0o755 } else { 0o644 };
            machine::write(&root, path, text, mode)?;
        }
        machine::write(&root, "etc/portguard/allowlist.yaml", ALLOWLIST, 0o644)?;
        fs::copy(portguard, root.join("usr/sbin/portguard"))?;
        let units = workspace().join("systemd/.");
        output(Command::new("cp").arg("--recursive").arg(units).arg(root.join("etc/systemd/system")))?;
        let unit = format!("portguard@{}.service", self.interface);
        machine::systemctl(&root, &["enable", &unit, "rpcbind.socket"])?;
        let server =
            if self.files.iter().any(|(path, _)| *path == "etc/exports") { "enable" } else { "disable" };
        machine::systemctl(&root, &[server, "nfs-server.service"])?;
        Ok(root)
    }
}
