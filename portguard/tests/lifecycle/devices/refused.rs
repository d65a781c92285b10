//! Kinds of devices that are refused: a guard on them would be attached, and the port open.

use portguard_testkit::net::Namespace;

use super::{DEVICE, Pair};

/// Makes a device on a host whose `eth0` has an address, and asserts that a guard on it is refused by name.
fn refused(kind: &str, line: &str, reason: &str) {
    let pair = Pair::with(line, "");
    pair.near.namespace.ip(&format!("link set {DEVICE} up")).expect("a device");
    pair.assert_refused(kind, DEVICE, reason);
}

/// The mode can be changed later, so that each is refused.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ipvlan() {
    for kind in ["ipvlan", "ipvtap"] {
        for mode in ["l2", "l3", "l3s"] {
            let line = format!("link add link eth0 dev0 type {kind} mode {mode}");
            refused(kind, &line, "Guard the interface under it");
        }
    }
}

/// What is said of them is true: a guard on the interface under one covers it, in whatever namespace it is.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ipvlan_is_covered_by_what_is_under_it() {
    for mode in ["l2", "l3", "l3s"] {
        let pair = Pair::with("", "link set eth0 down\nlink set eth0 name dev0\nlink set dev0 up");
        let guest = Namespace::new("guest").expect("a namespace");
        let near = &pair.near.namespace;
        near.ip(&format!("link add link eth0 name dev0 netns {} type ipvlan mode {mode}", guest.name()))
            .expect("an ipvlan");
        Pair::address_server(&guest);
        pair.address_client();
        for (server, network) in [
            ("192.0.2.1", "192.0.2.0/24"),
            ("198.51.100.1", "198.51.100.0/24"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8:51::1", "2001:db8:51::/64"),
        ] {
            // In modes l3 and l3s the interface under it finds the way, and nobody resolves addresses.
            near.ip(&format!("route add {network} dev eth0")).expect("a route");
            let neighbour = format!("neigh replace {server} lladdr 02:00:00:00:00:01 dev {DEVICE}");
            pair.far.ip(&neighbour).expect("a neighbour");
        }
        Pair::serve_at(&guest, None, || {
            pair.assert_answers(true, &format!("{mode}, without a guard"));
            pair.portguard().ok(&["attach", "eth0", "--allowlist", &pair.list()]);
            let sent = pair.assert_answers(false, &format!("{mode}, guarded"));
            pair.assert_counted(sent);
        });
    }
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn vrf() {
    refused("vrf", "link add dev0 type vrf table 9", "Guard the interfaces on which its packets arrive");
}

#[test]
fn ifb() {
    refused("ifb", "link add dev0 type ifb", "Guard the interfaces on which its packets arrive");
}

/// They have no Ethernet header, and nobody has tried what tcx sees of them.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn tunnels_without_ethernet() {
    let between = "local 10.9.0.NEAR remote 10.9.0.FAR";
    let between_v6 = "local fd09:0::NEAR remote fd09:0::FAR";
    for (kind, more) in [
        ("ipip", between),
        ("vti", &format!("{between} key 7")),
        ("vti6", &format!("{between_v6} key 7")),
        ("xfrm", "dev eth0 if_id 7"),
    ] {
        refused(kind, &format!("link add dev0 type {kind} {more}"), "is not known to portguard");
    }
    let gpe = "link add dev0 type vxlan dstport 4790 external gpe";
    refused("vxlan (GPE)", gpe, "is not known to portguard");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn devices_of_no_internet_protocol() {
    for kind in ["vcan", "vxcan", "nlmon", "vsockmon"] {
        refused(kind, &format!("link add dev0 type {kind}"), "is not known to portguard");
    }
}
