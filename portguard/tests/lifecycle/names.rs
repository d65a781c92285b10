//! What interfaces are called, and what they are not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use xtask::lab::run;

use crate::support::{Bench, IFACE, Output};

#[test]
fn any_name_that_the_kernel_takes_will_do() {
    let bench = Bench::bare();
    let portguard = bench.portguard();
    let list = bench.list();
    // A VLAN's, one of the greatest length, one of the shortest, one that a shell would choke on, and a German one.
    for name in ["eth0.100", "fifteen-letters", "x", "$(id)|*'\"", "größe0"] {
        bench.plug(name, "peer0");
        let told = portguard.ok(&["attach", name, "--allowlist", &list]);
        assert_eq!(told, format!("{name}: attached in native mode, enforcing, 1 entry\n"));
        assert_eq!(portguard.status().interface, name);
        assert_eq!(portguard.stats().interface, name);
        assert!(portguard.ok(&["reload", name]).starts_with(&format!("{name}: +0 -0")));
        assert_eq!(portguard.ok(&["detach", name]), format!("{name}: detached, port 111 is open\n"));
        bench.namespace.ip("link del peer0").expect("unplugging");
    }
}

#[test]
fn any_other_name_is_no_interface() {
    let bench = Bench::new();
    let portguard = bench.portguard();
    let list = bench.list();
    let long = "x".repeat(300);
    for name in ["", " ", ".", "..", "../../lo", "a/b", "eth0 ", "ETH0", "☃", &long] {
        for command in [&["attach", name, "--allowlist", &list][..], &["detach", name], &["status", name]] {
            let told = portguard.fails(4, command);
            assert!(told.contains(&format!("{name}: no such interface")), "{told}");
            assert!(told.contains("There are: lo, "), "{told}");
        }
    }
    bench.machine.assert_tidy(0);
}

/// The kernel takes almost any bytes for a name.
#[test]
fn an_interface_whose_name_is_no_text_stands_in_nobodys_way() {
    let bench = Bench::new();
    let portguard = bench.portguard();
    let name = OsStr::from_bytes(b"\xff\xfe0");
    let mut ip = bench.namespace.command("ip");
    run(ip.args(["link", "add", "name"]).arg(name).args(["type", "veth", "peer", "name", "peer1"]))
        .expect("a cable");

    portguard.ok(&["attach", IFACE, "--allowlist", &bench.list()]);
    assert_eq!(portguard.status().interface, IFACE);
    portguard.ok(&["detach", IFACE]);

    let output = Output::of(&mut portguard.command([OsStr::new("status"), name]));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("invalid UTF-8"), "{output:?}");
}
