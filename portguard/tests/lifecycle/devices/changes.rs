//! What is changed under a guard.

use portguard_testkit::net::{Namespace, run};

use super::{DEVICE, Pair};
use crate::support::IFACE;

/// A bond of one cable, with an address, and the far end.
fn bond(mode: &str) -> Pair {
    let pair = Pair::new(2);
    let near = format!(
        "link add dev0 type bond mode {mode} miimon 100
         link set eth0 down
         link set eth0 master dev0"
    );
    pair.make(&near, &near);
    pair.address();
    pair
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ports_of_every_kind_can_join_a_guarded_bond() {
    let pair = bond("active-backup");
    let portguard = pair.portguard();
    let near = &pair.near.namespace;
    let output = portguard.run(&["attach", DEVICE, "--allowlist", &pair.list()]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("dev0: native XDP not chosen"), "{output:?}");
    assert_eq!(portguard.status().mode, "generic");
    // A dummy has no native mode.
    near.ip("link add dummy0 type dummy\nlink set dummy0 master dev0").expect("a port without native mode");
    near.ip("link set dummy0 nomaster").expect("it leaves");
    for host in [near, &pair.far] {
        host.ip("link set eth1 down\nlink set eth1 master dev0\nlink set eth1 up").expect("a second port");
    }
    pair.serve(|| pair.assert_answers(false, "with two ports"));
    for host in [near, &pair.far] {
        host.ip("link set eth0 nomaster\nlink set eth0 down").expect("the first one leaves");
    }
    pair.serve(|| pair.assert_answers(false, "with the second port"));
    // A guarded card joins a guarded bond.
    portguard.ok(&["attach", "eth0", "--allowlist", &pair.list()]);
    near.ip("link set eth0 down\nlink set eth0 master dev0").expect("a guarded port");
    pair.serve(|| pair.assert_answers(false, "with a guarded port"));
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn the_mode_of_a_guarded_bond_can_be_changed() {
    let pair = Pair::with(
        "link add dev0 type bond mode active-backup miimon 100",
        "link set eth0 down
        link set eth0 name dev0
        link set dev0 up",
    );
    let portguard = pair.portguard();
    portguard.ok(&["attach", DEVICE, "--allowlist", &pair.list()]);
    let near = &pair.near.namespace;
    near.ip("link set dev0 type bond mode balance-alb").expect("a mode without native XDP");
    near.ip("link set eth0 down\nlink set eth0 master dev0\nlink set dev0 up").expect("a port");
    pair.address();
    let sent = pair.serve(|| pair.assert_answers(false, "in another mode"));
    pair.assert_counted(sent);
}

/// The kernel says EOPNOTSUPP for each of these.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn why_a_bond_has_no_native_mode_is_told_by_name() {
    let refused = |pair: &Pair, why: &str| {
        let arguments = ["attach", DEVICE, "--mode", "native", "--allowlist", &pair.list()];
        let told = pair.portguard().fails(1, &arguments);
        assert!(told.contains("dev0: native XDP refused") && told.contains(why), "{told}");
        assert!(told.contains("--mode generic"), "{told}");
    };
    let kernel = nix::sys::utsname::uname().expect("uname");
    if kernel.release().to_string_lossy().starts_with("5.10.") {
        refused(&bond("active-backup"), "a bond has none before Linux 5.15, and this is 5.10");
        return;
    }
    refused(&bond("balance-alb"), "a bond in mode balance-alb has none");
    let pair = bond("active-backup");
    let near = &pair.near.namespace;
    near.ip("link add dummy0 type dummy\nlink set dummy0 master dev0").expect("a port");
    refused(&pair, "not each of its ports has it (eth0, dummy0)");
    near.ip("link del dummy0").expect("it goes");
    pair.portguard().ok(&["attach", IFACE, "--mode", "native", "--allowlist", &pair.list()]);
    refused(&pair, "its port eth0 has an XDP program of its own");
    pair.portguard().ok(&["detach", IFACE]);
    // Named, it is what the user gets.
    pair.portguard().ok(&["attach", DEVICE, "--mode", "native", "--allowlist", &pair.list()]);
    let sent = pair.serve(|| pair.assert_answers(false, "in native mode"));
    pair.assert_counted(sent);
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn a_guard_goes_on_in_a_vrf_and_with_another_mtu() {
    let far = "link set eth0 down\nlink set eth0 name dev0\nlink set dev0 up";
    for mode in ["native", "generic"] {
        let pair = Pair::with("link set eth0 down\nlink set eth0 name dev0\nlink set dev0 up", far);
        pair.address();
        pair.assert_covered_by(DEVICE, &["--mode", mode]);
        let near = &pair.near.namespace;
        // A kernel without programs for several buffers refuses it in native mode.
        let _refused = near.ip("link set dev0 mtu 9000");
        pair.serve(|| pair.assert_answers(false, "with another MTU"));
        near.ip("link add vrf0 type vrf table 9\nlink set vrf0 up\nlink set dev0 master vrf0")
            .expect("a VRF");
        // Addresses of IPv6 go when an interface is put into a VRF.
        for address in ["2001:db8::1/64", "2001:db8:51::1/64"] {
            near.add_address(DEVICE, address).expect("an address");
        }
        Pair::serve_at(near, Some("vrf0"), || pair.assert_answers(false, "in a VRF"));
    }
}

/// A cable with a native program refuses what would not fit it, and is guarded all the while.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn a_guard_goes_on_while_the_queues_of_a_cable_change() {
    for mode in ["native", "generic"] {
        let pair = Pair::new(0);
        let near = &pair.near.namespace;
        let far = pair.far.name();
        near.ip(&format!(
            "link add dev0 numtxqueues 4 numrxqueues 4 type veth peer name dev0 netns {far} numtxqueues 4 numrxqueues 4"
        ))
        .expect("a cable");
        pair.address();
        pair.assert_covered_by(DEVICE, &["--mode", mode]);
        let queues = |host: &Namespace, queues: &[&str]| {
            run(host.command("ethtool").args(["-L", DEVICE]).args(queues)).is_ok()
        };
        if !queues(near, &["rx", "4", "tx", "4"]) {
            panic!("not supported by this kernel: the queues of a veth cannot be changed");
        }
        // Each receive queue of a native program serves a transmit queue of the other end.
        let (fewer, more) = (queues(near, &["rx", "1"]), queues(&pair.far, &["tx", "2"]));
        pair.serve(|| pair.assert_answers(false, &format!("{mode}, with other queues: {fewer} {more}")));
        assert!(queues(near, &["rx", "4", "tx", "4"]), "{mode}");
        pair.serve(|| pair.assert_answers(false, &format!("{mode}, with all queues")));
    }
}
