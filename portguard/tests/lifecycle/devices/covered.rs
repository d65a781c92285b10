//! Kinds of devices that a guard covers.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use portguard_testkit::net::{Namespace, run};

use super::{DEVICE, Pair, netkit};
use crate::support::has_tcx;
use crate::support::{ALLOWED, DENIED, PATIENCE, SILENCE};

/// The end of the cable is the device.
const CABLE: &str = "link set eth0 down
                     link set eth0 name dev0
                     link set dev0 up";

#[test]
fn veth() {
    Pair::both(CABLE).assert_covered("veth");
}

#[test]
fn bridge() {
    Pair::with(
        "link add dev0 type bridge
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bridge");
}

#[test]
fn macvlan() {
    Pair::with("link add link eth0 dev0 type macvlan mode bridge", CABLE).assert_covered("macvlan");
}

#[test]
fn vxlan() {
    Pair::both("link add dev0 type vxlan id 7 remote 10.9.0.FAR dstport 4789 dev eth0")
        .assert_covered("vxlan");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn vlan() {
    Pair::both("link add link eth0 dev0 type vlan id 5").assert_covered("vlan");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn vlan_802_1ad() {
    Pair::both("link add link eth0 dev0 type vlan protocol 802.1ad id 5").assert_covered("vlan (802.1ad)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn bond_active_backup() {
    Pair::with(
        "link add dev0 type bond mode active-backup miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bond (active-backup)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn bond_balance_rr() {
    Pair::with(
        "link add dev0 type bond mode balance-rr miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bond (balance-rr)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn bond_balance_xor() {
    Pair::with(
        "link add dev0 type bond mode balance-xor miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bond (balance-xor)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn bond_balance_tlb() {
    Pair::with(
        "link add dev0 type bond mode balance-tlb miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bond (balance-tlb)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn bond_balance_alb() {
    Pair::with(
        "link add dev0 type bond mode balance-alb miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    )
    .assert_covered("bond (balance-alb)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn geneve() {
    Pair::both("link add dev0 type geneve id 7 remote 10.9.0.FAR").assert_covered("geneve");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn gretap() {
    Pair::both("link add dev0 type gretap local 10.9.0.NEAR remote 10.9.0.FAR").assert_covered("gretap");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ip6gretap() {
    Pair::both("link add dev0 type ip6gretap local fd09:0::NEAR remote fd09:0::FAR")
        .assert_covered("ip6gretap");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn erspan() {
    Pair::both(
        "link add dev0 type erspan seq key 7 local 10.9.0.NEAR remote 10.9.0.FAR erspan_ver 1 erspan 7",
    )
    .assert_covered("erspan");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn ip6erspan() {
    Pair::both(
        "link add dev0 type ip6erspan seq key 7 local fd09:0::NEAR remote fd09:0::FAR erspan_ver 1 erspan 7",
    )
    .assert_covered("ip6erspan");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn macsec() {
    Pair::both("link add link eth0 dev0 type macsec port 1 encrypt on
         macsec add dev0 tx sa 0 pn 1 on key 0NEAR 0123456789abcdef0123456789abcdef
         macsec add dev0 rx port 1 address 02:00:00:00:00:0FAR
         macsec add dev0 rx port 1 address 02:00:00:00:00:0FAR sa 0 pn 1 on key 0FAR 0123456789abcdef0123456789abcdef").assert_covered("macsec");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn l2tp_eth() {
    Pair::both("l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap udp local 10.9.0.NEAR remote 10.9.0.FAR udp_sport 5000 udp_dport 5000
         l2tp add session name dev0 tunnel_id 1 session_id 1 peer_session_id 1").assert_covered("l2tp-eth (no kind)");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn batman_adv() {
    let pair = Pair::both(
        "link add dev0 address 02:00:00:00:05:0NEAR type batadv
         link set eth0 master dev0
         link set dev0 up",
    );
    // It answers questions for IPv4 addresses itself, and needs time to learn them.
    for (host, addresses, mac) in [
        (&pair.near.namespace, ["192.0.2.10", "198.51.100.20"], "02:00:00:00:05:02"),
        (&pair.far, ["192.0.2.1", "198.51.100.1"], "02:00:00:00:05:01"),
    ] {
        for address in addresses {
            host.ip(&format!("neigh replace {address} lladdr {mac} dev {DEVICE}")).expect("a neighbour");
        }
    }
    pair.assert_covered("batadv");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn dummy() {
    // Nothing comes in on it, which a guard does not change.
    let pair = Pair::with("link add dev0 type dummy", CABLE);
    pair.address();
    pair.portguard().ok(&["attach", DEVICE, "--allowlist", &pair.list()]);
    assert_eq!(pair.portguard().stats().packets(), 0);
    println!("fact: device dummy = {}", pair.portguard().status().mode);
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn hsr() {
    for (protocol, kind) in [("0", "hsr"), ("1", "hsr (PRP)")] {
        let pair = Pair::new(2);
        let ring =
            format!("link add name dev0 type hsr slave1 eth0 slave2 eth1 supervision 45 proto {protocol}");
        pair.make(&ring, &ring);
        pair.assert_covered(kind);
    }
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn team() {
    team_of_one().assert_covered("team");
}

/// A team whose port is the end of the cable.
fn team_of_one() -> Pair {
    let pair = Pair::with("link add dev0 type team", CABLE);
    let near = &pair.near.namespace;
    Pair::tool(near, "teamnl", &[DEVICE, "setoption", "mode", "roundrobin"]);
    near.ip("link set eth0 down\nlink set eth0 master dev0").expect("a port");
    pair
}

/// Asserts that a guard on the end of the cable covers what is made of it.
fn assert_covered_from_below(pair: &Pair, name: &str) {
    pair.address();
    let stats = pair.assert_covered_by("eth0", &[]);
    println!("fact: device {name} = {}", stats.mode);
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn the_port_of_a_bond() {
    let pair = Pair::with(
        "link add dev0 type bond mode active-backup miimon 100
         link set eth0 down
         link set eth0 master dev0",
        CABLE,
    );
    assert_covered_from_below(&pair, "port of a bond");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn the_port_of_a_team() {
    assert_covered_from_below(&team_of_one(), "port of a team");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn the_interface_under_a_vlan() {
    let pair = Pair::both("link add link eth0 name dev0 type vlan id 5");
    assert_covered_from_below(&pair, "interface under a vlan");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn wireguard() {
    let pair = Pair::both("link add dev0 type wireguard");
    let (near, far) = (&pair.near.namespace, &pair.far);
    let folder = tempfile::tempdir().expect("a folder");
    // Of RFC 7748, section 6.1: the private keys of Alice and Bob, and the public ones.
    let keys = [
        ("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="),
        ("XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=", "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="),
    ];
    for (host, own, other, address) in [(near, 0, 1, "10.9.0.2:51820"), (far, 1, 0, "10.9.0.1:51820")] {
        let file = folder.path().join(own.to_string());
        fs::write(&file, keys[own].0).expect("a key");
        let file = file.display().to_string();
        let peer = ["peer", keys[other].1, "endpoint", address, "allowed-ips", "0.0.0.0/0,::/0"];
        Pair::tool(
            host,
            "wg",
            &[&["set", DEVICE, "listen-port", "51820", "private-key", &file], &peer[..]].concat(),
        );
    }
    pair.assert_covered("wireguard");
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn netkit() {
    for (mode, kind) in [(netkit::Mode::L2, "netkit (L2)"), (netkit::Mode::L3, "netkit (L3)")] {
        let pair = Pair::new(0);
        let near = &pair.near.namespace;
        match near.run(|| netkit::make(DEVICE, "peer0", mode)) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                panic!("not supported by this kernel: netkit: {error}")
            }
            made => made.expect("a pair"),
        }
        near.ip(&format!("link set peer0 netns {} name dev0", pair.far.name())).expect("its other end");
        pair.assert_covered(kind);
    }
}

#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn openvswitch() {
    let pair = Pair::with("", CABLE);
    let near = &pair.near.namespace;
    let switch = |arguments: &[&str]| Pair::tool(near, "ovs-dpctl", arguments);
    switch(&["add-dp", "dp0"]);
    switch(&["add-if", "dp0", "dev0,type=internal"]);
    switch(&["add-if", "dp0", "eth0"]);
    // Port 0 is the switch itself.
    for (from, to) in [("1", "2"), ("2", "1")] {
        for (kind, fields) in [("0x0800", "ipv4(frag=no)"), ("0x86dd", "ipv6(frag=no)"), ("0x0806", "arp()")]
        {
            switch(&["add-flow", "dp0", &format!("in_port({from}),eth(),eth_type({kind}),{fields}"), to]);
        }
    }
    pair.assert_covered("openvswitch");
    switch(&["del-dp", "dp0"]);
}

/// The frames that a guest gets who holds a macvtap: its character device.
struct Guest(File);

impl Guest {
    fn new(near: &Namespace, folder: &Path) -> Self {
        // Of this namespace; the sysfs of the machine shows another one.
        let show = format!("mount -t sysfs sysfs /sys && cat /sys/class/net/{DEVICE}/tap*/dev");
        let number = run(near.command("unshare").args(["--mount", "sh", "-c", &show])).expect("a tap").stdout;
        let number: Vec<u64> = number.trim().split(':').map(|part| part.parse().expect("a number")).collect();
        let device = makedev(number[0], number[1]);
        let node = folder.join("tap");
        mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, device).expect("a device");
        let options = libc::O_NONBLOCK;
        Self(File::options().read(true).write(true).custom_flags(options).open(node).expect("a macvtap"))
    }

    /// Whether it gets a frame with these bytes.
    fn gets(&self, bytes: &[u8], patience: Duration) -> bool {
        let begun = Instant::now();
        let mut frame = [0; 2048];
        while begun.elapsed() < patience {
            match (&self.0).read(&mut frame) {
                Ok(length) if frame[..length].windows(bytes.len()).any(|window| window == bytes) => {
                    return true;
                }
                Ok(_) => {}
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
        false
    }
}

/// What comes in for a guest that holds the device: it reads frames.
#[test]
fn macvtap() {
    let pair =
        Pair::with("link add link eth0 dev0 address 02:00:00:00:00:09 type macvtap mode bridge", CABLE);
    pair.address();
    let folder = tempfile::tempdir().expect("a folder");
    let guest = Guest::new(&pair.near.namespace, folder.path());
    let servers = ["192.0.2.1", "2001:db8::1", "198.51.100.1", "2001:db8:51::1"];
    for server in servers {
        let line = format!("neigh replace {server} lladdr 02:00:00:00:00:09 dev {DEVICE}");
        pair.far.ip(&line).expect("a neighbour");
    }
    let reaches = |source: IpAddr, server: &str, patience| {
        let question = format!("from {source}, to a guest");
        let socket = pair.far.run(|| UdpSocket::bind((source, 0))).expect("a socket");
        socket.send_to(question.as_bytes(), (server, 111)).expect("sending");
        guest.gets(question.as_bytes(), patience)
    };
    let sources = ALLOWED.into_iter().chain(DENIED).zip(servers);
    for (source, server) in sources.clone() {
        assert!(reaches(source, server, PATIENCE), "{source}, without a guard");
    }
    pair.portguard().ok(&["attach", DEVICE, "--allowlist", &pair.list()]);
    for (source, server) in sources {
        let allowed = ALLOWED.contains(&source);
        let patience = if allowed { PATIENCE } else { SILENCE };
        assert_eq!(reaches(source, server, patience), allowed, "{source}");
    }
    let stats = pair.portguard().stats();
    assert_eq!((stats.totals.allowed.packets, stats.totals.dropped.packets), (2, 2));
    println!("fact: device macvtap = {}", stats.mode);
}

/// They have no Ethernet header: a guard on them is at tcx, where the kernel has that.
#[test]
#[ignore = "needs all of Debian's drivers; cargo xtask vm-test has them, and runs it"]
fn tunnels_without_ethernet() {
    let between = "local 10.9.0.NEAR remote 10.9.0.FAR";
    let between_v6 = "local fd09:0::NEAR remote fd09:0::FAR";
    for (kind, more) in [
        ("gre", between),
        ("sit", &format!("mode any {between}")),
        ("ip6tnl", &format!("mode any {between_v6}")),
        ("ip6gre", between_v6),
    ] {
        Pair::both(&format!("link add dev0 type {kind} {more}")).assert_covered_at_tcx(kind);
    }
    // Without a peer, a header of the link is the outer one: `ipgre_header_ops`.
    if has_tcx() {
        let pair = Pair::both("link add dev0 type gre local 10.9.0.NEAR remote 239.1.1.1 ttl 4 dev eth0");
        pair.assert_covered_at_tcx("gre (multicast)");
    }
}
