//! A booted Debian without rpcbind, into which the package comes by the command of README.md: nothing comes along, nothing
//! listens that did not, and nothing fails.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Result, ensure};
use portguard_testkit::net::{Switch, Veth};

use crate::documented;
use crate::fleet_test::host::{Booted, Image};

/// Where the administrator sits, and the host.
const DESK: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// What must be the same before and after.
const LISTENING: &str = "ss --no-header --listening --tcp --udp --numeric | awk '{print $1, $5}' | sort";
const FAILED: &str = "systemctl list-units --failed --plain --no-legend";
/// What must grow by portguard alone.
const PACKAGES: &str = "dpkg-query --show --showformat '${Package}\\n' | sort";

/// Boots the Debian, which has the package in root's home, and installs the package.
pub(super) fn check(debian: &Path, folder: &Path) -> Result<()> {
    let install = documented::command("apt install ./")?;
    let image = Image::of(debian.to_owned(), folder)?;
    let switch = Switch::new(Veth::new())?;
    let desk = switch.host("desk", &[DESK])?;
    let mut host = Booted::start(&image, &switch, "clean", HOST)?;
    host.wait_for(&desk)?;
    let on = |line: &str| host.on(&desk, &image.key, line);
    // A namespace is not all of a machine; what fails for that has failed before.
    on("systemctl is-system-running --wait > /dev/null || true")?;
    let state = || -> Result<[String; 3]> { Ok([on(LISTENING)?, on(FAILED)?, on(PACKAGES)?]) };
    let [listening, failed, packages] = state()?;
    ensure!(!packages.contains("rpcbind\n"), "rpcbind is there already");
    let said = on(&install)?;
    ensure!(said.contains("systemctl enable --now portguard@"), "the next step is not told: {said}");
    let [listening_after, failed_after, packages_after] = state()?;
    ensure!(packages_after.replacen("portguard\n", "", 1) == packages, "more came than portguard: {said}");
    ensure!(
        listening_after == listening,
        "listens after the installation:\n{listening_after}before:\n{listening}"
    );
    ensure!(failed_after == failed, "failed after the installation:\n{failed_after}before:\n{failed}");
    eprintln!("dist-test: {install}: nothing listens that did not before, and nothing failed");
    Ok(())
}
