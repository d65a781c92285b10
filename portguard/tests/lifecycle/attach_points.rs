//! What a guard covers depends on where it is: bridges and their ports, macvlans and what they sit on. `docs/attach-points.md`
//! has the table; these are its rows, as far as this kernel has the devices.

use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::signal::Signal;
use portguard_testkit::net::{End, Namespace, Veth, run};

use crate::support::{BEFORE_THE_LOOK, Foreign, PORTGUARD, SILENCE, Service, SingleHost, detach_link};

const OUTSIDE: &str = "198.51.100.1";

/// A host whose `eth0` leads to one outside that is not on the list.
struct Site {
    single: SingleHost,
    outside: Namespace,
}

impl Site {
    fn new() -> Self {
        let single = SingleHost::bare(PORTGUARD);
        let outside = Namespace::new("outside").expect("a namespace");
        let ends = [End::new(&single.namespace, "eth0"), End::new(&outside, "eth0")];
        Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
        outside.add_address("eth0", &format!("{OUTSIDE}/24")).expect("an address");
        Self { single, outside }
    }

    fn guard(&self, interface: &str) {
        self.single.portguard().ok(&["attach", interface, "--allowlist", &self.single.list()]);
    }

    /// Whether a question from outside to port 111 of `address` reaches a socket of the host that has it.
    fn reaches(&self, host: &Namespace, address: &str) -> bool {
        let receiver = host.run(|| UdpSocket::bind((address, 111))).expect("a socket on port 111");
        let sender = self.outside.run(|| UdpSocket::bind((OUTSIDE, 0))).expect("a socket outside");
        receiver.set_read_timeout(Some(SILENCE)).expect("a timeout");
        // The first ones may be lost while addresses are resolved, or a bridge learns.
        for _ in 0..5 {
            sender.send_to(b"anybody there?", (address, 111)).expect("to send");
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver.recv_from(&mut [0; 64]).is_ok()
    }
}

/// A host with the bridge `br0`, of which `eth0` is a port, and a guest at another port.
fn bridged() -> (Site, Namespace) {
    let site = Site::new();
    let guest = Namespace::new("guest").expect("a namespace");
    let ends = [End::new(&site.single.namespace, "guest0"), End::new(&guest, "eth0")];
    Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
    site.single
        .namespace
        .ip("link add br0 type bridge
             link set eth0 master br0
             link set guest0 master br0
             link set br0 up")
        .expect("a bridge");
    site.single.namespace.add_address("br0", "198.51.100.2/24").expect("an address");
    guest.add_address("eth0", "198.51.100.3/24").expect("an address");
    (site, guest)
}

const HOST: &str = "198.51.100.2";
const GUEST: &str = "198.51.100.3";

#[test]
fn a_guard_on_a_bridge_covers_the_host_and_not_its_guests() {
    let (site, guest) = bridged();
    assert!(site.reaches(&site.single.namespace, HOST) && site.reaches(&guest, GUEST), "without a guard");
    site.guard("br0");
    assert!(!site.reaches(&site.single.namespace, HOST));
    assert!(site.reaches(&guest, GUEST));
}

#[test]
fn a_guard_on_the_port_of_a_bridge_covers_the_guests_too() {
    let (site, guest) = bridged();
    site.guard("eth0");
    assert!(!site.reaches(&site.single.namespace, HOST));
    assert!(!site.reaches(&guest, GUEST));
}

#[test]
fn a_guard_on_a_guests_port_is_not_in_the_way_to_the_guest() {
    let (site, guest) = bridged();
    site.guard("guest0");
    assert!(site.reaches(&site.single.namespace, HOST) && site.reaches(&guest, GUEST));
}

/// A host with the macvlan `mv0` on its `eth0`; both have addresses.
fn macvlan() -> Site {
    let site = Site::new();
    site.single
        .namespace
        .ip("link add mv0 link eth0 type macvlan mode bridge\nlink set mv0 up")
        .expect("CONFIG_MACVLAN");
    site.single.namespace.add_address("eth0", &format!("{HOST}/24")).expect("an address");
    site.single.namespace.add_address("mv0", &format!("{GUEST}/24")).expect("an address");
    // Each address on the interface that has it.
    site.single
        .namespace
        .run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"))
        .expect("a setting");
    site
}

#[test]
fn a_guard_under_a_macvlan_covers_it() {
    let site = macvlan();
    let host = &site.single.namespace;
    assert!(site.reaches(host, HOST) && site.reaches(host, GUEST), "without a guard");
    site.guard("eth0");
    assert!(!site.reaches(host, HOST) && !site.reaches(host, GUEST));
}

#[test]
fn a_guard_on_a_macvlan_covers_no_more_than_that() {
    let site = macvlan();
    let host = &site.single.namespace;
    site.guard("mv0");
    assert!(site.reaches(host, HOST));
    assert!(!site.reaches(host, GUEST));
}

/// Macvlans in mode bridge switch packets among themselves: the interface under them, and its guard, see none of it.
#[test]
fn between_macvlans_only_a_guard_on_the_macvlan_itself_judges() {
    let site = macvlan();
    let host = &site.single.namespace;
    let sibling = Namespace::new("sibling").expect("a namespace");
    let line = format!("link add link eth0 name mv1 netns {} type macvlan mode bridge", sibling.name());
    host.ip(&line).expect("a macvlan in a container");
    sibling.ip("link set mv1 up").expect("a macvlan");
    sibling.add_address("mv1", "198.51.100.4/24").expect("an address");
    let asks = || {
        let receiver = host.run(|| UdpSocket::bind((GUEST, 111))).expect("a socket on port 111");
        let sender = sibling.run(|| UdpSocket::bind(("198.51.100.4", 0))).expect("a socket");
        receiver.set_read_timeout(Some(SILENCE)).expect("a timeout");
        for _ in 0..5 {
            sender.send_to(b"anybody there?", (GUEST, 111)).expect("to send");
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver.recv_from(&mut [0; 64]).is_ok()
    };
    site.guard("eth0");
    assert!(asks(), "past the guard under both");
    let doctor = || site.single.portguard().run(&["doctor", "--json"]).stdout;
    let told = doctor();
    assert!(told.contains("other devices on the interface under it"), "{told}");
    site.guard("mv0");
    assert!(!asks());
    assert!(!doctor().contains("other devices on the interface under it"));
}

/// The kernel attaches no program below another one.
#[test]
fn several_interfaces_are_attached_lowest_first_and_what_is_in_the_way_is_named() {
    let site = macvlan();
    let host = &site.single.namespace;
    let portguard = site.single.portguard();
    let list = site.single.list();
    let told = portguard.ok(&["attach", "mv0", "eth0", "--allowlist", &list]);
    let guarded: Vec<&str> = told.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(guarded, ["eth0", "mv0"]);
    assert!(!site.reaches(host, HOST) && !site.reaches(host, GUEST));
    portguard.ok(&["detach", "eth0", "mv0"]);

    let service = Service::start(portguard, &["mv0", "eth0", "--allowlist", &list]);
    assert_eq!(portguard.all_status().len(), 2, "{}", service.said());
    drop(service);
    portguard.ok(&["detach", "eth0", "mv0"]);

    // One below a guard gets its own all the same: the upper guard is off for a moment, and stays what it is.
    let own = site.single.lists.write("own.yaml", ["203.0.113.0/24"]);
    portguard.ok(&["attach", "mv0", "--audit", "--allowlist", &own]);
    let upper = portguard.status_of("mv0");
    assert!(site.reaches(host, GUEST), "audit mode");
    let counted = portguard.stats().packets();
    let output = portguard.run(&["attach", "eth0", "--allowlist", &list]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("mv0: its guard was off for a moment"), "{output:?}");
    let status = portguard.status_of("mv0");
    assert_eq!((status.enforcing, &status.allowlist), (false, &upper.allowlist));
    assert_eq!(status.program, upper.program);
    let stats = portguard.all_stats(&["mv0"]);
    assert_eq!(stats[0].packets(), counted, "its counters go on");
    assert!(!site.reaches(host, HOST) && !site.reaches(host, GUEST));
    portguard.ok(&["detach", "eth0"]);
    assert!(site.reaches(host, GUEST), "in audit mode still");
    site.single.machine.assert_tidy(1);
    portguard.ok(&["detach", "mv0"]);

    // Somebody else's program is left alone.
    run(site.single.machine.command(host, "xdp-filter").args(["load", "--mode", "skb", "mv0"]))
        .expect("xdp-filter");
    let because = "mv0, which is on top of it, has an XDP program already";
    for mode in ["native", "generic"] {
        let refused = portguard.fails(1, &["attach", "eth0", "--mode", mode, "--allowlist", &list]);
        assert!(refused.contains(because), "{refused}");
    }
    let attached = portguard.run(&["attach", "eth0", "--allowlist", &list]);
    assert!(attached.stderr.contains(because) && attached.stdout.contains("attached at tcx"), "{attached:?}");
    portguard.ok(&["detach", "eth0"]);
    run(site.single.machine.command(host, "xdp-filter").args(["unload", "mv0"])).expect("xdp-filter");

    // In another network namespace it cannot be named.
    let container = Namespace::new("container").expect("a namespace");
    host.ip(&format!("link set mv0 netns {}", container.name())).expect("a container");
    site.single.machine.portguard(&container).ok(&["attach", "mv0", "--allowlist", &list]);
    let refused = portguard.fails(1, &["attach", "eth0", "--hook", "xdp", "--allowlist", &list]);
    assert!(refused.contains("other network namespaces"), "{refused}");
}

/// How a router hands packets to the cable of a host, instead of routing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redirect {
    /// Out of its own end of the cable.
    Mirred,
    /// Straight into the other end.
    Peer,
}

/// What a program on the other end's host redirects into a cable comes past a guard in one of the modes: native mode does not
/// see what is put into its end, generic mode not what was redirected before (`skb_is_redirected` in `net/core/dev.c`). Where
/// the packets come in, a guard sees them.
#[test]
fn what_is_redirected_into_a_cable_passes_a_guard_in_one_of_the_modes() {
    for (redirect, place, passes) in [
        (Redirect::Mirred, ["--mode", "native"], false),
        (Redirect::Mirred, ["--mode", "generic"], true),
        (Redirect::Mirred, ["--hook", "tcx"], false),
        (Redirect::Peer, ["--mode", "native"], true),
        (Redirect::Peer, ["--mode", "generic"], false),
        (Redirect::Peer, ["--hook", "tcx"], false),
    ] {
        let (single, router, outside) = (
            SingleHost::bare(PORTGUARD),
            Namespace::new("router").expect("a namespace"),
            Namespace::new("outside").expect("a namespace"),
        );
        for (name, host) in [("in0", &single.namespace), ("out0", &outside)] {
            let ends = [End::new(&router, name), End::new(host, "eth0")];
            Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
        }
        let tc = |line: &str| {
            run(router.command("tc").args(line.split(' '))).expect("tc");
        };
        let mut links = Vec::new();
        for (from, to) in [("in0", "out0"), ("out0", "in0")] {
            tc(&format!("qdisc add dev {from} clsact"));
            if redirect == Redirect::Peer && from == "out0" {
                let [from, to] = [from, to].map(|name| router.ifindex(name).expect("its index"));
                links.push(Foreign::redirecting_to_peer(to).attach_first(&router, from));
                continue;
            }
            let all = "protocol all u32 match u32 0 0";
            tc(&format!("filter add dev {from} ingress {all} action mirred egress redirect dev {to}"));
        }
        outside.add_address("eth0", &format!("{OUTSIDE}/24")).expect("an address");
        single.namespace.add_address("eth0", &format!("{HOST}/24")).expect("an address");
        let site = Site { single, outside };
        let host = &site.single.namespace;
        assert!(site.reaches(host, HOST), "without a guard");
        let list = site.single.list();
        site.single.portguard().ok(&[&["attach", "eth0", "--allowlist", &list], &place[..]].concat());
        assert_eq!(site.reaches(host, HOST), passes, "{redirect:?}, {place:?}");
        let told = site.single.portguard().run(&["doctor", "--json"]).stdout;
        assert_eq!(told.contains("redirects into it"), place[0] == "--mode", "{told}");
        // On the router's side a guard sees all.
        let on_router = site.single.machine.portguard(&router);
        on_router.ok(&["attach", "out0", "--allowlist", &site.single.list()]);
        assert!(!site.reaches(host, HOST), "{redirect:?}, {place:?}, with a guard where they come in");
    }
}

/// Programs on tcx are no qdisc's.
#[test]
fn doctor_names_interfaces_whose_tcx_programs_may_redirect_past_a_guard() {
    let single = SingleHost::new(PORTGUARD);
    single.plug("eth1", "peer1");
    single.portguard().ok(&["attach", "eth0", "--allowlist", &single.list()]);
    let doctor = || single.portguard().run(&["doctor"]).stdout;
    assert!(!doctor().contains("it has filters for arriving packets"));
    let [peer, eth1] = ["peer0", "eth1"].map(|name| single.namespace.ifindex(name).expect("its index"));
    let link = Foreign::redirecting_to_peer(peer).attach_first(&single.namespace, eth1);
    let told = doctor();
    assert!(
        told.contains("it has filters for arriving packets") && told.contains("bpftool net show dev eth1"),
        "{told}"
    );
    drop(link);
    assert!(!doctor().contains("it has filters for arriving packets"));
}

/// Packets that come in on an interface without a guard, and are redirected.
#[test]
fn doctor_names_interfaces_whose_filters_may_redirect_past_a_guard() {
    let single = SingleHost::new(PORTGUARD);
    single.plug("eth1", "peer1");
    single.portguard().ok(&["attach", "eth0", "--allowlist", &single.list()]);
    let doctor = || single.portguard().run(&["doctor"]).stdout;
    let tc = |line: &str| drop(run(single.namespace.command("tc").args(line.split(' '))).expect("tc"));
    for line in [
        "qdisc add dev eth1 clsact",
        "filter add dev eth1 egress protocol all u32 match u32 0 0 action mirred egress redirect dev peer0",
    ] {
        tc(line);
        assert!(
            !doctor().contains("it has filters for arriving packets"),
            "of nothing that comes in: {line}"
        );
    }
    tc("filter add dev eth1 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev peer0");
    let told = doctor();
    assert!(
        told.contains("it has filters for arriving packets")
            && told.contains("tc filter show dev eth1 ingress"),
        "{told}"
    );
}

/// A service keeps what it was told to, whatever is taken off and comes in which order.
#[test]
fn a_service_puts_a_guard_back_below_another_one() {
    let site = macvlan();
    let host = &site.single.namespace;
    let portguard = site.single.portguard();
    let list = site.single.list();
    let service = Service::start(portguard, &["mv0", "eth0", "late0", "--allowlist", &list]);
    detach_link(&site.single.machine, portguard, "eth0");
    service.until_said("mv0: its guard was off for a moment");
    assert!(!site.reaches(host, HOST) && !site.reaches(host, GUEST));

    // A port that comes when its bridge has a guard.
    drop(service);
    host.ip("link add br0 type bridge\nlink set br0 up").expect("a bridge");
    let service = Service::start(portguard, &["br0", "late0", "--allowlist", &list]);
    host.ip("link add late0 type veth peer name late1\nlink set late0 master br0\nlink set late0 up")
        .expect("a port");
    service.until_said("late0: attached in");
    let names: Vec<String> = portguard.all_status().into_iter().map(|it| it.interface).collect();
    assert!(["br0", "late0"].iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
    drop(service);
}

/// With something else in the way, which it cannot take off, the guard above is not taken off again and again.
#[test]
fn a_service_does_not_open_a_guard_in_vain_at_each_look() {
    let site = macvlan();
    let host = &site.single.namespace;
    let portguard = site.single.portguard();
    let list = site.single.list();
    let container = Namespace::new("container").expect("a namespace");
    let mut service = Service::start(portguard, &["mv0", "eth0", "--hook", "xdp", "--allowlist", &list]);
    let line = format!("link add link eth0 name mv1 netns {} type macvlan mode bridge", container.name());
    host.ip(&line).expect("a macvlan in a container");
    site.single.machine.portguard(&container).ok(&["attach", "mv1", "--allowlist", &list]);
    let link = || site.single.machine.link(&portguard.status_of("mv0").pinned).id;
    let before = link();
    detach_link(&site.single.machine, portguard, "eth0");
    service.until_said("eth0: NOT GUARDED");
    let after = link();
    assert_ne!(after, before, "it was tried once: {}", service.said());
    for number in 0..3 {
        // Each is a look.
        host.ip(&format!("link add look{number} type bridge\nlink set look{number} up")).expect("a bridge");
        std::thread::sleep(BEFORE_THE_LOOK);
    }
    assert_eq!(link(), after, "{}", service.said());
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success(), "{}", service.said());
}

/// A vxlan is above the interface that it sends over, without naming it as others do.
#[test]
fn a_vxlan_is_attached_behind_what_it_sends_over() {
    let site = Site::new();
    let host = &site.single.namespace;
    host.ip("link add vx0 type vxlan id 7 remote 198.51.100.1 dstport 4789 dev eth0\nlink set vx0 up")
        .expect("a vxlan");
    let told = site.single.portguard().ok(&["attach", "vx0", "eth0", "--allowlist", &site.single.list()]);
    let guarded: Vec<&str> = told.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(guarded, ["eth0", "vx0"]);
}
