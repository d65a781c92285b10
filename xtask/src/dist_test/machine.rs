//! The machine that packages are installed on. It has a disk, because it reboots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::dist::Made;
use crate::machine::{self, KERNEL, Told};
use crate::vm_test::{Apt, Kernel, Series, install_module, output, pack};

/// How long the machine may run.
const LIMIT: Duration = Duration::from_secs(30 * 60);
const SCRIPT: &str = include_str!("guest.sh");
/// What it takes to mount the disk; not every kernel has each as a module.
const MODULES: [&str; 15] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "crc16",
    "crc32c_generic",
    "crc32c-cryptoapi",
    "libcrc32c",
    "mbcache",
    "jbd2",
    "ext2",
    "ext4",
    "crc32-cryptoapi",
];
/// Mounts the disk, and hands over to its systemd.
const INIT: &str = "\
#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t devtmpfs devtmpfs /dev
for round in 1 2 3 4; do for module in /modules/*; do $bb insmod $module 2>/dev/null; done; done
$bb mount -t ext4 /dev/vda /root || { $bb echo 'FAIL the disk cannot be mounted'; $bb poweroff -f; }
exec $bb switch_root /root /lib/systemd/systemd
";

/// Installs, reboots, upgrades, removes and purges.
pub(super) fn check(made: &Made, debian: &Path, folder: &Path) -> Result<Told> {
    let series = Series::named(KERNEL).map_err(anyhow::Error::msg)?;
    let kernel = Apt::update(folder.join("apt"))?.kernel(series, &folder.join("kernels"))?;
    let root = folder.join("root");
    machine::copy(debian, &root, &["usr/share/locale", "var/cache/apt", "var/lib/apt"])?;
    machine::furnish(&root, &kernel, SCRIPT)?;
    machine::write(&root, "test/stage", "fresh\n", 0o644)?;
    let next = made.next()?;
    fs::copy(&made.deb.path, root.join("test/old.deb"))?;
    fs::copy(&next.path, root.join("test/new.deb"))?;
    fs::copy(&made.archive, root.join("test/portguard.tar.gz"))?;
    machine::systemctl(&root, &["enable", "rpcbind.socket"])?;
    let disk = folder.join("disk");
    if disk.exists() {
        fs::remove_file(&disk)?;
    }
    output(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&root).arg(&disk).arg("2G"))?;

    let initramfs = initramfs(&kernel, folder)?;
    let drive = format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display());
    let arguments = ["-m", "1024", "-drive", &drive, "-device", "virtio-blk-pci,drive=disk"];
    let console =
        machine::boot(&kernel, &initramfs, &arguments, "rdinit=/init", LIMIT, &folder.join("console.log"))?;
    print!("{console}");
    let told = machine::judge(&console, "dist")?;
    fs::remove_file(&disk)?;
    Ok(told)
}

/// What mounts the disk.
fn initramfs(kernel: &Kernel, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("init");
    bare(&root, INIT)?;
    for module in MODULES {
        // What is missing is built in, or the disk cannot be mounted.
        let _ = install_module(kernel, module, &root);
    }
    pack(&root, &folder.join("initramfs"))
}

/// A root with busybox, and this as its first process.
pub(super) fn bare(root: &Path, init: &str) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    for mount_point in ["dev", "proc", "sys", "root", "modules", "bin"] {
        fs::create_dir_all(root.join(mount_point))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.context("there is no busybox; try: cargo xtask setup")?, root.join("bin/busybox"))?;
    machine::write(root, "init", init, 0o755)
}
