//! Hosts that ask everybody at once, as `rpcinfo -b` and clients of NIS do.

use std::net::IpAddr;

use portguard_testkit::net::{Capture, Process, RpcServices, rpc, wait_until};

use super::{MODES, sources, unguard, wire_of};
use crate::support::{ALLOWED, IFACE, PATIENCE, PORTGUARD, Role, SERVER, Testbed};

/// What a network of hosts with global addresses would be listed as, and what its broadcasts over IPv6 need beside that.
const GLOBAL: [&str; 2] = ["192.0.2.0/24", "2001:db8::/48"];
const LINK_LOCAL: &str = "fe80::/10";

/// Lets the allowed host ask everybody who has an rpcbind, until it has an answer, which it reads when it has asked over both
/// families.
#[track_caller]
fn ask_everybody(testbed: &Testbed) {
    // rpcinfo goes on for long, and would keep its lines to itself until the end.
    let mut command = testbed.host(Role::Allowed).command("stdbuf");
    command.args(["-oL", "rpcinfo", "-b", &rpc::PROGRAM.to_string(), "4"]);
    let rpcinfo = Process::spawn(&mut command).expect("rpcinfo");
    let answer = format!("{}.0.111", SERVER[0]);
    wait_until("rpcinfo has an answer", PATIENCE, || Ok(rpcinfo.output().contains(&answer)))
        .unwrap_or_else(|error| panic!("{error:#}: {}{:?}", rpcinfo.output(), testbed.portguard().stats()));
}

/// Whether an address is one that hosts have on each link, beside their own.
fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[test]
fn broadcasts_over_ipv6_come_from_link_local_addresses_and_pass_only_if_these_are_listed() {
    let testbed = Testbed::new(PORTGUARD);
    // With -r it answers broadcasts.
    let _rpcbind = RpcServices::start_with(testbed.server.namespace(), &["-r"]).expect("rpcbind");
    // The addresses of a testbed have no broadcast address; the link-local ones are the kernel's.
    for role in [Role::Server, Role::Allowed] {
        let [address, _] = role.addresses();
        let with_broadcast = format!("addr add {address}/24 brd + dev {IFACE}");
        testbed.host(role).namespace().ip(&with_broadcast).expect("a broadcast address");
    }
    for mode in MODES {
        let list = testbed.lists.write("allowlist.yaml", GLOBAL);
        testbed.portguard().ok(&["attach", IFACE, "--allowlist", &list, "--mode", mode]);
        let mut wire = wire_of(&testbed, Role::Server);
        let mut inside = Capture::start(testbed.server.namespace(), IFACE).expect("a capture");
        ask_everybody(&testbed);
        let mut requests = wire.requests().expect("a capture without gaps");
        assert!(requests.remove(&ALLOWED[0]).is_some(), "over IPv4: {requests:?}");
        let over_v6: Vec<IpAddr> = requests.into_keys().collect();
        assert!(!over_v6.is_empty() && over_v6.iter().all(is_link_local), "over IPv6: {over_v6:?}");
        testbed.portguard().assert_counted_as_on(&mut wire, &over_v6);
        assert_eq!(sources(inside.requests()), ALLOWED[..1], "the broadcast over IPv4 alone");

        testbed.lists.write("allowlist.yaml", GLOBAL.into_iter().chain([LINK_LOCAL]));
        testbed.portguard().ok(&["reload", IFACE]);
        let dropped = testbed.portguard().stats().totals.dropped;
        ask_everybody(&testbed);
        assert_eq!(sources(inside.requests()), [&ALLOWED[..1], &over_v6].concat(), "both broadcasts");
        assert_eq!(testbed.portguard().stats().totals.dropped, dropped, "nothing more is dropped");
        unguard(&testbed, Role::Server);
    }
}
