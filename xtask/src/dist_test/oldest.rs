//! The released program on the oldest kernel that it is for, without anything else of a system.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Release;
use super::machine::bare;
use crate::machine;
use crate::vm_test::{Apt, Series, install_module, pack};

/// The oldest kernel.
const KERNEL: &str = "5.10";
/// How long the machine may run.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// Guards an interface that leads nowhere.
const INIT: &str = "\
#!/bin/busybox sh
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
$bb insmod /modules/dummy.ko
exec > /dev/ttyS0 2>&1
try() { portguard \"$@\" || $bb echo \"FAIL portguard $*\"; }
export PATH=/bin
try attach dummy0 --allowlist /list.yaml
try status dummy0
try explain 192.0.2.7 --iface dummy0
try reload dummy0
portguard explain 198.51.100.7 --iface dummy0
try detach dummy0
$bb echo COMPLETE
$bb poweroff -f
";

/// Attaches, asks and detaches there.
pub(super) fn check(release: &Release, folder: &Path) -> Result<()> {
    let series = Series::named(KERNEL).map_err(anyhow::Error::msg)?;
    let kernel = Apt::update(folder.join("apt"))?.kernel(series, &folder.join("kernels"))?;
    let root = folder.join("oldest");
    bare(&root, INIT)?;
    fs::copy(&release.program, root.join("bin/portguard")).context("cannot copy the program")?;
    machine::write(&root, "list.yaml", machine::ALLOWLIST, 0o644)?;
    install_module(&kernel, "dummy", &root)?;
    let initramfs = pack(&root, &folder.join("oldest-initramfs"))?;
    let arguments = ["-m", "768", "-no-reboot"];
    let log = folder.join("oldest.log");
    let console = machine::boot(&kernel, &initramfs, &arguments, "panic=-1 rdinit=/init", LIMIT, &log)?;
    print!("{console}");
    let says = |text: &str| console.lines().any(|line| line.contains(text));
    ensure!(says("COMPLETE") && !says("FAIL"), "it does not run on Linux {}", kernel.version);
    ensure!(says("192.0.2.7 on dummy0: allowed"), "it does not let in who is on the list");
    ensure!(says("198.51.100.7 on dummy0: dropped"), "it does not drop who is not");
    Ok(())
}
