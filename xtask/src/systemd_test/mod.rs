//! `cargo xtask systemd-test`: the units under a real systemd, which is the first process of a virtual machine with
//! Debian's packages. It boots several times: with an interface that is there from the beginning, where the service is
//! started, reloaded, killed, stuck and stopped while an allowed and a denied flow run; and with interfaces that come
//! later; and with systemd's filter of addresses behind the guard.
//!
//! The file system of the machine is in memory.

use std::time::Duration;

use anyhow::{Context as _, Result};
use portguard_testkit::document::rows;

use crate::machine::{self, Boot, Installation, KERNEL, Parts};
use crate::reliability::{DOCUMENT, SYSTEMD};
use crate::vm_test::Series;

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/systemd-test";
/// How long a machine may run.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// The boots.
const BOOTS: [Boot; 4] = [
    Boot {
        name: "there",
        interface: "eth0",
        script: include_str!("guest.sh"),
        files: &[],
        // doctor asks which units the sockets belong to.
        modules: &["inet_diag", "tcp_diag", "udp_diag"],
        exports: None,
        limit: LIMIT,
    },
    Boot {
        name: "late",
        interface: "bond0",
        script: include_str!("late.sh"),
        files: &[("test/testbed", include_str!("late_testbed.sh"))],
        modules: &["bonding"],
        // To both clients: it is the guard that makes the difference.
        exports: Some("/srv 192.0.2.0/24(ro,fsid=1) 198.51.100.0/24(ro,fsid=1)\n"),
        limit: LIMIT,
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
        exports: None,
        limit: LIMIT,
    },
    Boot {
        name: "second-net",
        interface: "eth0",
        script: include_str!("second_net.sh"),
        files: &[],
        modules: &[
            "inet_diag",
            "tcp_diag",
            "udp_diag",
            "tunnel4",
            "ip_tunnel",
            "ipip",
            "macvlan",
            "libcrc32c",
            "crc32c_generic",
            "nfnetlink",
            "nf_tables",
            "nf_defrag_ipv4",
            "nf_defrag_ipv6",
            "nf_conntrack",
            "nf_nat",
            "nft_chain_nat",
            "nft_redir",
        ],
        exports: None,
        limit: LIMIT,
    },
];
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

/// Boots the machine, reads what it tells, and writes it down.
pub(crate) fn run() -> Result<()> {
    let parts = Parts::make("systemd-test", FOLDER, &["nftables"], Installation::copied)?;
    let kernel = parts.kernel(Series::named(KERNEL).map_err(anyhow::Error::msg)?)?;
    let mut consoles = String::new();
    for boot in &BOOTS {
        let console = boot.run(&parts, &kernel, |_| Ok(()))?;
        machine::complete(&console).with_context(|| format!("the boot \"{}\"", boot.name))?;
        consoles += &console;
    }
    let told = machine::judge(&consoles, "systemd")?;
    DOCUMENT.write(SYSTEMD, &format!("{}\nIn the machine: {}.\n", rows(&told.figures), told.machine))
}
