//! Where packets arrive, and where guards are.

use super::{Told, Topology, Who};

pub(super) const HOST: &[&str] = &["192.0.2.1", "2001:db8::1"];
const ON_MACVLAN: &[&str] = &["198.51.100.1", "2001:db8:51::1"];
const ON_TUNNEL: &[&str] = &["198.51.100.1"];

/// The stranger asks the host, on whose `eth0` the packets arrive.
pub(super) const fn plain(what: &'static str, told: Told, setup: &'static str) -> Topology {
    Topology {
        what,
        setup: ["", "", setup],
        asks: Who::Stranger,
        at: HOST,
        doctor: Who::Host,
        subject: "eth0",
        told,
    }
}

/// The host's addresses are on a bridge.
const fn bridge(what: &'static str, told: Told, setup: &'static str) -> Topology {
    Topology { setup: [BRIDGE, "", setup], subject: "br0", ..plain(what, told, "") }
}

/// A guest on that bridge asks.
const fn guest(what: &'static str, told: Told, setup: &'static str) -> Topology {
    Topology {
        setup: [BRIDGE, GUEST_ON_BRIDGE, setup],
        asks: Who::Guest,
        subject: "br0",
        ..plain(what, told, "")
    }
}

/// A macvlan of the guest asks one of the host on the same card.
const fn sibling(what: &'static str, told: Told, setup: &'static str) -> Topology {
    let asks = Who::Guest;
    Topology {
        setup: ["MODE=bridge", MACVLANS, setup],
        asks,
        at: ON_MACVLAN,
        subject: "mv0",
        ..plain(what, told, "")
    }
}

/// The stranger asks over the card under the macvlan.
const fn under_macvlan(what: &'static str, told: Told, setup: &'static str) -> Topology {
    Topology { asks: Who::Stranger, setup: ["MODE=private", MACVLANS, setup], ..sibling(what, told, "") }
}

/// The macvlan is the guest's, and so are rpcbind and doctor.
const fn of_guest(what: &'static str, told: Told, setup: &'static str) -> Topology {
    let at = &["198.51.100.77", "2001:db8:51::77"];
    let (asks, doctor) = (Who::Stranger, Who::Guest);
    Topology {
        setup: ["MODE=private", MACVLANS, setup],
        asks,
        at,
        doctor,
        subject: "mv1",
        ..plain(what, told, "")
    }
}

/// The stranger asks over a cable whose end at the host has no address.
const fn without_address(
    what: &'static str,
    told: Told,
    first: &'static str,
    then: &'static str,
) -> Topology {
    Topology {
        setup: [NO_ADDRESS, first, then],
        at: &["192.0.2.1"],
        subject: "eth7",
        ..plain(what, told, "")
    }
}

const BRIDGE: &str = "
    ip link add br0 type bridge; ip link set br0 up
    ip addr flush dev eth0; ip link set eth0 master br0
    ip addr add 192.0.2.1/24 dev br0; ip -6 addr add 2001:db8::1/64 dev br0";

/// As Docker, libvirt and Proxmox attach guests.
const GUEST_ON_BRIDGE: &str = "
    ip link add tap0 type veth peer name eth0 netns $GUEST; ip link set tap0 master br0 up
    ip -n $GUEST addr add 192.0.2.77/24 dev eth0; ip -n $GUEST -6 addr add 2001:db8::77/64 dev eth0
    ip -n $GUEST link set eth0 up";

/// One of the host, and one of the guest, on the same card; the stranger has an address of their network.
const MACVLANS: &str = "
    ip link add mv0 link eth0 type macvlan mode $MODE; ip link set mv0 up
    ip addr add 198.51.100.1/24 dev mv0; ip -6 addr add 2001:db8:51::1/64 dev mv0
    ip link add link eth0 name mv1 netns $GUEST type macvlan mode $MODE; ip -n $GUEST link set mv1 up
    ip -n $GUEST addr add 198.51.100.77/24 dev mv1; ip -n $GUEST -6 addr add 2001:db8:51::77/64 dev mv1
    ip -n $STRANGER addr add 198.51.100.66/24 dev eth0; ip -n $STRANGER -6 addr add 2001:db8:51::66/64 dev eth0";

/// A tunnel to the stranger over `eth0`.
const VXLAN: &str = "
    ip link add vx0 type vxlan id 5 dstport 4789 local 192.0.2.1 remote 192.0.2.66 dev eth0
    ip addr add 198.51.100.1/24 dev vx0; ip link set vx0 up
    ip -n $STRANGER link add vx0 type vxlan id 5 dstport 4789 local 192.0.2.66 remote 192.0.2.1 dev eth0
    ip -n $STRANGER addr add 198.51.100.66/24 dev vx0; ip -n $STRANGER link set vx0 up";

/// A second cable to the stranger, with no address at this end; the stranger sends over it what is for the host.
const NO_ADDRESS: &str = "
    ip link add eth7 type veth peer name eth7 netns $STRANGER; ip link set eth7 addrgenmode none; ip link set eth7 up
    ip -n $STRANGER addr flush dev eth0; ip -n $STRANGER link set eth0 down
    ip -n $STRANGER addr add 192.0.2.66/24 dev eth7; ip -n $STRANGER link set eth7 up
    MAC=$(cat /sys/class/net/eth7/address || ip -br link show eth7 | awk '{print $3}')
    ip -n $STRANGER neigh add 192.0.2.1 lladdr $MAC dev eth7
    ip route del 192.0.2.0/24 dev eth0; ip route add 192.0.2.66 dev eth7
    ip neigh add 192.0.2.66 lladdr $(ip -n $STRANGER -br link show eth7 | awk '{print $3}') dev eth7
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth7.rp_filter=0";

const STRICT: &str = "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv6.conf.eth7.disable_ipv6=1";

pub(super) const ALL: &[Topology] = &[
    plain("nothing is there", Told::Open, ""),
    plain("a guard", Told::Closed, "attach eth0"),
    plain("a guard in generic mode", Told::Closed, "attach eth0 --mode generic"),
    plain("a guard in audit mode", Told::Open, "attach eth0 --audit"),
    plain("a guard that was taken off", Told::Open, "attach eth0; $PORTGUARD detach eth0 2>&1"),
    plain(
        "another XDP program, which drops",
        Told::CannotTell,
        "xdp-filter load --mode skb --features udp,tcp eth0
        xdp-filter port 111",
    ),
    bridge("a bridge", Told::Open, ""),
    bridge("a guarded bridge", Told::Closed, "attach br0"),
    bridge("a bridge whose only port is guarded", Told::Closed, "attach eth0"),
    guest("a bridge, one of whose ports is guarded", Told::Open, "attach eth0"),
    guest("a bridge, all of whose ports are guarded", Told::Closed, "attach eth0 tap0"),
    guest("a guarded bridge, and a guest on it", Told::Closed, "attach br0"),
    Topology {
        subject: "tap0",
        ..guest("the port of a guest, whose bridge is guarded", Told::Closed, "attach br0")
    },
    sibling("a macvlan beside another one, on a guarded card", Told::Open, "attach eth0"),
    sibling("a guarded macvlan, on a guarded card", Told::Closed, "attach mv0 eth0"),
    sibling("a guarded macvlan, on a card without a guard", Told::Closed, "attach mv0"),
    under_macvlan("a private macvlan on a guarded card", Told::Closed, "attach eth0"),
    under_macvlan("a private macvlan", Told::Open, ""),
    Topology {
        subject: "eth0",
        at: HOST,
        ..under_macvlan("the card under a guarded macvlan", Told::Open, "attach mv0")
    },
    of_guest("a macvlan whose card is in another network namespace", Told::Open, ""),
    of_guest("a macvlan whose card is guarded in another network namespace", Told::Closed, "attach eth0"),
    of_guest("a macvlan whose card is guarded in audit mode there", Told::Open, "attach eth0 --audit"),
    Topology {
        setup: ["MODE=bridge", MACVLANS, "attach eth0"],
        at: &["198.51.100.77", "2001:db8:51::77"],
        asks: Who::Host,
        ..of_guest("a macvlan beside one of the host, whose card is guarded there", Told::Open, "")
    },
    Topology {
        asks: Who::Stranger,
        setup: [VXLAN, "", "attach eth0"],
        at: ON_TUNNEL,
        subject: "vx0",
        ..plain("a tunnel over a guarded card", Told::Open, "")
    },
    Topology {
        asks: Who::Stranger,
        setup: [VXLAN, "", "attach vx0"],
        at: ON_TUNNEL,
        subject: "vx0",
        ..plain("a guarded tunnel", Told::Closed, "")
    },
    without_address("an interface without an address", Told::Open, "", ""),
    without_address("a guarded interface without an address", Told::Closed, "", "attach eth7"),
    without_address(
        "an interface with a route, without an address, and with strict reverse paths",
        Told::Open,
        STRICT,
        "",
    ),
    without_address(
        "an interface without a route, and with strict reverse paths",
        Told::Closed,
        STRICT,
        "ip route del 192.0.2.66 dev eth7",
    ),
];
