//! `suggest --systemd`: the list as a drop-in for a unit of rpcbind. `cargo xtask systemd-test` tries it with systemd and rpcbind.

use crate::support::{IFACE, PORTGUARD, SingleHost};

/// What is no comment.
fn settings(drop_in: &str) -> Vec<&str> {
    drop_in.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn a_drop_in_has_the_entries_of_the_list_and_no_others() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write_text(
        "allowlist.yaml",
        "allow:\n  - 192.0.2.0/24\n  - {prefix: 198.51.100.7, until: 2020-01-01}\n  - {prefix: '2001:db8::/48', udp: none}\n  - \
         {prefix: 203.0.113.9, until: 2499-01-01}\n",
    );
    let entries = [
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=192.0.2.0/24",
        "IPAddressAllow=2001:db8::/48",
        "IPAddressAllow=203.0.113.9",
    ];
    let mut sorted = entries;
    sorted.sort_unstable();
    for (unit, section) in [("rpcbind.socket", "[Socket]"), ("rpcbind.service", "[Service]")] {
        let told = portguard.ok(&["suggest", "--systemd", unit, "--allowlist", &list]);
        let mut lines = settings(&told);
        assert_eq!(lines[..2], [section, "IPAddressDeny=any"], "{told}");
        lines.remove(0);
        lines.sort_unstable();
        assert_eq!(lines, sorted, "{told}");
        assert!(told.contains("# Left out, because it has ended: 198.51.100.7\n"), "{told}");
        assert!(told.contains(&format!("/etc/systemd/system/{unit}.d/portguard-addresses.conf")), "{told}");
    }
    // Without a name it is the list of the guards.
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let told = portguard.ok(&["suggest", "--systemd", "rpcbind.socket"]);
    assert_eq!(settings(&told).len(), 1 + entries.len(), "{told}");
    // A list that nobody is on lets nobody in but this host.
    let empty = host.lists.write_text("empty.yaml", "allow: []\n");
    let told = portguard.ok(&["suggest", "--systemd", "rpcbind.service", "--allowlist", &empty]);
    assert_eq!(settings(&told), ["[Service]", "IPAddressDeny=any", "IPAddressAllow=localhost"]);
    for more in [&["nfs.service"][..], &["rpcbind.socket", "--merge"], &["rpcbind.socket", "--json"]] {
        portguard.fails(2, &[&["suggest", "--systemd"], more].concat());
    }
}
