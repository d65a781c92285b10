//! The kinds of devices: which a guard covers on which kernel, as a table in docs/attach-points.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::debian::{Kernel, output};
use super::matrix::Column;
use super::verdict::Verdict;
use portguard_testkit::document;

/// Where the table is, below the root of the workspace.
const DOCUMENT: &str = "docs/attach-points.md";
/// The mark of the table there.
const KEY: &str = "devices";
/// The suite of the tests.
pub(super) const SUITE: &str = "lifecycle";

/// Drivers of devices. What a kernel does not have, its test reports.
pub(super) const MODULES: [&str; 42] = [
    "8021q",
    "batman-adv",
    "bonding",
    "dummy",
    "geneve",
    "hsr",
    "ifb",
    "ip6_gre",
    "ip6_tunnel",
    "ip6_vti",
    "ip_gre",
    "ip_vti",
    "ipip",
    "ipvlan",
    "ipvtap",
    "l2tp_eth",
    "l2tp_ip",
    "l2tp_netlink",
    "macsec",
    "macvlan",
    "mac80211_hwsim",
    "macvtap",
    "mpls_router",
    "nlmon",
    "openvswitch",
    "sit",
    "tcp_diag",
    "team",
    "team_mode_roundrobin",
    "udp_diag",
    "vcan",
    "vrf",
    "vsockmon",
    "vxcan",
    "vxlan",
    "wireguard",
    "xfrm_interface",
    // Cipher and checksums that some of them ask for by another name.
    "aes_generic",
    "crc32c_generic",
    "ctr",
    "gcm",
    "ghash-generic",
];

/// What the tests make devices with, beside `ip`.
pub(super) const TOOLS: [&str; 6] = ["ethtool", "iw", "ovs-dpctl", "setpriv", "teamnl", "wg"];

/// Kinds that nothing is tried with: they are refused as each kind is that portguard does not know, and carry no Ethernet
/// frames.
const OTHERS: [&str; 5] = ["can", "gtp", "ipoib", "lowpan", "ppp"];

/// A row of the table: what a test tells of.
struct Device {
    /// How the test calls it; the first word is the kind, if it is about one.
    name: &'static str,
    /// The test.
    test: &'static str,
}

const fn row(name: &'static str, test: &'static str) -> Device {
    Device { name, test }
}

/// The rows.
const DEVICES: [Device; 48] = [
    row("batadv", "devices::covered::batman_adv"),
    row("bond (active-backup)", "devices::covered::bond_active_backup"),
    row("bond (balance-rr)", "devices::covered::bond_balance_rr"),
    row("bond (balance-xor)", "devices::covered::bond_balance_xor"),
    row("bond (balance-tlb)", "devices::covered::bond_balance_tlb"),
    row("bond (balance-alb)", "devices::covered::bond_balance_alb"),
    row("bridge", "devices::covered::bridge"),
    row("dummy", "devices::covered::dummy"),
    row("erspan", "devices::covered::erspan"),
    row("geneve", "devices::covered::geneve"),
    row("gretap", "devices::covered::gretap"),
    row("hsr", "devices::covered::hsr"),
    row("hsr (PRP)", "devices::covered::hsr"),
    row("ip6erspan", "devices::covered::ip6erspan"),
    row("ip6gretap", "devices::covered::ip6gretap"),
    row("l2tp-eth (no kind)", "devices::covered::l2tp_eth"),
    row("macsec", "devices::covered::macsec"),
    row("macvlan", "devices::covered::macvlan"),
    row("macvtap", "devices::covered::macvtap"),
    row("net_failover (no kind)", "devices::cards::net_failover"),
    row("netkit (L2)", "devices::covered::netkit"),
    row("netkit (L3)", "devices::covered::netkit"),
    row("openvswitch", "devices::covered::openvswitch"),
    row("team", "devices::covered::team"),
    row("veth", "devices::covered::veth"),
    row("vlan", "devices::covered::vlan"),
    row("vlan (802.1ad)", "devices::covered::vlan_802_1ad"),
    row("vxlan", "devices::covered::vxlan"),
    row("wireless (no kind)", "devices::cards::wireless"),
    row("wireguard", "devices::covered::wireguard"),
    row("interface under a vlan", "devices::covered::the_interface_under_a_vlan"),
    row("port of a bond", "devices::covered::the_port_of_a_bond"),
    row("port of a team", "devices::covered::the_port_of_a_team"),
    row("gre", "devices::covered::tunnels_without_ethernet"),
    row("ifb", "devices::refused::ifb"),
    row("ip6gre", "devices::covered::tunnels_without_ethernet"),
    row("ip6tnl", "devices::covered::tunnels_without_ethernet"),
    row("ipip", "devices::refused::tunnels_without_ethernet"),
    row("ipvlan", "devices::refused::ipvlan"),
    row("ipvtap", "devices::refused::ipvlan"),
    row("nlmon", "devices::refused::devices_of_no_internet_protocol"),
    row("sit", "devices::covered::tunnels_without_ethernet"),
    row("vcan", "devices::refused::devices_of_no_internet_protocol"),
    row("vrf", "devices::refused::vrf"),
    row("vti", "devices::refused::tunnels_without_ethernet"),
    row("vti6", "devices::refused::tunnels_without_ethernet"),
    row("vxcan", "devices::refused::devices_of_no_internet_protocol"),
    row("xfrm", "devices::refused::tunnels_without_ethernet"),
];
/// Kinds that a row of another kind stands for: the same test makes them.
const BESIDE: [&str; 1] = ["vsockmon"];

/// Whether a test needs the drivers of devices.
pub(super) fn is_about(test: &str) -> bool {
    test.starts_with("devices::")
}

/// The tests, each once.
pub(super) fn tests() -> Vec<&'static str> {
    let tests: BTreeSet<&str> = DEVICES.iter().map(|device| device.test).collect();
    tests.into_iter().collect()
}

/// Fails if a kernel can make devices of a kind that no row is about.
pub(super) fn require_all_kinds(kernel: &Kernel) -> Result<()> {
    let mut modules = Vec::new();
    list(&kernel.packages, &mut modules)?;
    let aliases = output(Command::new("modinfo").args(["-F", "alias"]).args(&modules))?;
    let first_word = |name: &'static str| name.split(' ').next().unwrap_or(name);
    let known: BTreeSet<&str> =
        DEVICES.iter().map(|device| first_word(device.name)).chain(OTHERS).chain(BESIDE).collect();
    let kinds: BTreeSet<&str> =
        aliases.lines().filter_map(|alias| alias.strip_prefix("rtnl-link-")).collect();
    ensure!(!kinds.is_empty(), "no kinds of devices are found in the modules of {}", kernel.version);
    let missing: Vec<&str> = kinds.difference(&known).copied().collect();
    ensure!(
        missing.is_empty(),
        "{} has kinds of devices that are not tried: {}",
        kernel.version,
        missing.join(", ")
    );
    Ok(())
}

/// The modules of network devices below a folder.
fn list(folder: &Path, modules: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let text = path.display().to_string();
        if path.is_dir() && !path.is_symlink() {
            list(&path, modules)?;
        } else if text.contains(".ko") && ["/net/", "/infiniband/"].iter().any(|part| text.contains(part)) {
            modules.push(path);
        }
    }
    Ok(())
}

/// What became of a row on a kernel.
fn cell(device: &Device, column: &Column) -> Result<String, String> {
    let what = format!("device {}: {}", device.name, device.test);
    match column.console.verdict(SUITE, device.test) {
        Some(Verdict::Passed) => match column.console.fact(&format!("device {}", device.name)) {
            Some("refused") => Ok("refused".to_owned()),
            Some(mode) => Ok(format!("covered, {mode}")),
            None => Err(format!("{what} does not tell")),
        },
        Some(Verdict::NotSupported(_)) => Ok("not in this kernel".to_owned()),
        Some(Verdict::Failed) => Err(format!("{what} failed")),
        None => Err(format!("{what} did not run to its end")),
    }
}

/// What is wrong with the devices of a kernel.
pub(super) fn failures(column: &Column) -> Vec<String> {
    DEVICES.iter().filter_map(|device| cell(device, column).err()).collect()
}

/// Writes the table down.
pub(super) fn write(columns: &[Column]) -> Result<()> {
    document::replace(DOCUMENT, KEY, &table(columns))
}

/// The table: a column for each kernel.
pub(super) fn table(columns: &[Column]) -> String {
    let mut text = String::new();
    let mut row = |first: &str, cells: Vec<String>| {
        let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
    };
    row("guard on", columns.iter().map(|column| format!("Linux {}", column.version)).collect());
    row("---", columns.iter().map(|_| "---".to_owned()).collect());
    for device in &DEVICES {
        let cell = |column: &Column| cell(device, column).unwrap_or_else(|_| "**FAILED**".to_owned());
        row(device.name, columns.iter().map(cell).collect());
    }
    text
}

/// The console of a machine on which all is well.
#[cfg(test)]
pub(super) fn example() -> String {
    let mut text = format!("vm-test: begin {SUITE}\n");
    for device in &DEVICES {
        let _ = write!(text, "test {} ... ok\nfact: device {} = generic\n", device.test, device.name);
    }
    text
}
