//! Devices without a kind: each counts as a card.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::ifaddrs::getifaddrs;
use portguard_testkit::net::{FAILOVER, Namespace, run};
use serde_json::Value;

use super::pair::server;
use super::{DEVICE, Pair};
use crate::support::{Lists, Output, PORTGUARD, SingleHost};

/// Two radios, which hear one another (`mac80211_hwsim`).
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn wireless() {
    let pair = Pair::new(0);
    for (radio, host) in [("phy0", &pair.near.namespace), ("phy1", &pair.far)] {
        let names = fs::read_dir(format!("/sys/class/ieee80211/{radio}/device/net")).expect("a radio");
        let name = names.flatten().next().expect("its interface").file_name();
        let name = name.to_str().expect("a name");
        run(Command::new("iw").args(["phy", radio, "set", "netns", "name", host.name()])).expect("iw");
        host.ip(&format!("link set {name} name {DEVICE}")).expect("a name");
        for line in ["dev dev0 set type ibss", "dev dev0 ibss join testbed 2412 fixed-freq 02:11:22:33:44:55"]
        {
            Pair::tool(host, "iw", &line.split(' ').collect::<Vec<_>>());
            host.ip(&format!("link set {DEVICE} up")).expect("a radio");
        }
    }
    pair.assert_covered("wireless (no kind)");
}

/// The interfaces of this network namespace with an address of the link.
fn with_mac(mac: &str) -> Vec<String> {
    let has = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":") == mac;
    let interfaces = getifaddrs().expect("interfaces");
    let found = interfaces.filter(|it| it.address.and_then(|it| it.as_link_addr()?.addr()).is_some_and(has));
    found.map(|it| it.interface_name).collect()
}

/// What puts a virtual card and its stand-in together (`drivers/net/net_failover.c`). It does not leave its network namespace,
/// so that this is played in that of the machine.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn net_failover() {
    let ip = |line: &str| run(Command::new("ip").args(line.split(' '))).expect("ip");
    // The device and its stand-in have the same address; that one is a port of it.
    let is_port = |name: &str| Path::new("/sys/class/net").join(name).join("master").exists();
    let device =
        with_mac(FAILOVER[0]).into_iter().find(|name| !is_port(name)).expect("a device of net_failover");
    let [card] = &with_mac(FAILOVER[1])[..] else { panic!("one card") };
    let far = Namespace::new("far").expect("a namespace");
    ip(&format!("link set {card} netns {} name {DEVICE}", far.name()));
    let pair = Pair { near: SingleHost::bare(PORTGUARD), far };
    pair.address_client();
    ip(&format!("link set {device} up"));
    for address in ["192.0.2.1/24", "198.51.100.1/24", "2001:db8::1/64", "2001:db8:51::1/64"] {
        let nodad = if address.contains("::") { " nodad" } else { "" };
        ip(&format!("addr add {address} dev {device}{nodad}"));
    }
    let state = tempfile::tempdir().expect("a folder");
    let portguard = |arguments: &[&str]| {
        let mut command = Command::new(PORTGUARD);
        let output = Output::of(command.args(arguments).env("STATE_DIRECTORY", state.path()));
        assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
        output.stdout
    };
    let lists = Lists::new();
    let list = lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/64"]);
    Pair::serve_on(&server().expect("port 111"), || {
        pair.assert_answers(true, "without a guard");
        portguard(&["attach", &device, "--allowlist", &list]);
        let sent = pair.assert_answers(false, "guarded");
        let stats: Value = serde_json::from_str(&portguard(&["stats", "--json"])).expect("JSON");
        let totals = &stats["interfaces"][0]["totals"];
        assert_eq!(totals["allowed"]["packets"], sent.allowed, "{totals}");
        assert_eq!(totals["dropped"]["packets"], sent.denied, "{totals}");
    });
    let status: Value = serde_json::from_str(&portguard(&["status", "--json"])).expect("JSON");
    println!(
        "fact: device net_failover (no kind) = {}",
        status["interfaces"][0]["mode"].as_str().expect("a mode")
    );
    portguard(&["detach", &device]);
    ip(&format!("addr flush dev {device}"));
}
