//! Devices of other kinds than an Ethernet card with packets of 1500 bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Count, Forger, Switch, Veth};

use crate::support::{
    ALLOWED, DENIED, IFACE, Lists, Machine, PATIENCE, PORTGUARD, SERVER, SingleHost, Tun, flow, port_111, sum,
};

/// `ARPHRD_ETHER`, `ARPHRD_IPGRE`.
const ETHERNET: u16 = 1;
const GRE: u16 = 778;

const SIZES: [usize; 4] = [0, 40, 1400, 8900];

#[test]
fn a_tun_device_is_guarded_although_its_packets_have_no_link_header() {
    // The driver has native XDP for tap devices only. What its owner says its link type is (TUNSETLINK) changes nothing.
    for (mode, link_type) in
        [("auto", None), ("generic", None), ("auto", Some(ETHERNET)), ("auto", Some(GRE))]
    {
        let host = SingleHost::bare(PORTGUARD);
        let portguard = host.portguard();
        let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
        let tun = Tun::new(&host.namespace);
        if let Some(link_type) = link_type {
            tun.set_link_type(link_type);
        }
        host.namespace.ip("link set tun0 mtu 9000\nlink set tun0 up").expect("a device");
        host.namespace.add_address(Tun::INTERFACE, "192.0.2.1/24").expect("an address");
        host.namespace.add_address(Tun::INTERFACE, "2001:db8::1/64").expect("an address");
        host.namespace.ip("route add default dev tun0\n-6 route add default dev tun0").expect("routes");
        let sockets = SERVER.map(|server| {
            let socket = host.namespace.run(|| UdpSocket::bind(port_111(server))).expect("port 111");
            socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            socket
        });
        let mut heard = vec![0; 9000];

        // Without a guard, everybody is heard.
        for (socket, (source, server)) in sockets.iter().zip(DENIED.into_iter().zip(SERVER)) {
            tun.send(&Packet::udp(flow(source, server, 111), b"who?"));
            assert_eq!(socket.recv_from(&mut heard).expect("a datagram").1.ip(), source);
        }

        let told = portguard.ok(&["attach", "tun0", "--mode", mode, "--allowlist", &list]);
        assert_eq!(told, "tun0: attached in generic mode, enforcing, 2 entries\n");
        let mut sent: BTreeMap<IpAddr, Count> = BTreeMap::new();
        for (socket, (index, server)) in sockets.iter().zip(SERVER.into_iter().enumerate()) {
            for size in SIZES {
                let payload = vec![7; size];
                // What is denied is sent first: if it came through, it would be heard first.
                for source in [DENIED[index], ALLOWED[index]] {
                    let packet = Packet::udp(flow(source, server, 111), &payload);
                    let count = Count { packets: 1, bytes: packet.bytes().len() as u64 };
                    *sent.entry(source).or_default() += count;
                    tun.send(&packet);
                }
                let (length, source) = socket.recv_from(&mut heard).expect("a datagram");
                assert_eq!((length, source.ip()), (size, ALLOWED[index]));
            }
            // A port of nobody's business, from a denied source.
            let other = host.namespace.run(|| UdpSocket::bind((server, 112))).expect("port 112");
            other.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            tun.send(&Packet::udp(flow(DENIED[index], server, 112), b"hello"));
            assert_eq!(other.recv(&mut heard).expect("a datagram"), 5);
        }
        let stats = portguard.stats();
        assert_eq!(stats.totals.allowed, sum(ALLOWED.map(|source| sent[&source])));
        assert_eq!(stats.by_source(), DENIED.into_iter().map(|source| (source, sent[&source])).collect());
    }
}

/// The link type can also be changed later; what the device carries cannot.
#[test]
fn a_guarded_tun_device_whose_link_type_is_changed_stays_guarded() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let tun = Tun::new(&host.namespace);
    let list = host.list();
    portguard.ok(&["attach", Tun::INTERFACE, "--allowlist", &list]);
    let before = portguard.status();
    tun.set_link_type(ETHERNET);
    let told = portguard.ok(&["attach", Tun::INTERFACE]);
    assert!(told.contains("renewed in place"), "{told}");
    let after = portguard.status();
    assert_eq!((after.mode.as_str(), after.enforcing), (before.mode.as_str(), true));
    host.namespace.ip("link set tun0 up").expect("a device");
    host.namespace.add_address(Tun::INTERFACE, "192.0.2.1/24").expect("an address");
    let told = portguard.run(&["doctor"]).stdout;
    assert!(!told.contains("does not see all"), "{told}");
}

#[test]
fn jumbo_frames_pass_or_are_dropped_whole_in_native_mode() {
    let switch = Switch::new(Veth::new().mtu(9000)).expect("a switch");
    let (machine, lists) = (Machine::new(PORTGUARD), Lists::new());
    let server = switch.host("server", &SERVER).expect("a host");
    let client = switch.host("client", &[ALLOWED, DENIED].concat()).expect("a host");
    let portguard = machine.portguard(server.namespace());
    let list = lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    let told = portguard.ok(&["attach", IFACE, "--mode", "native", "--allowlist", &list]);
    assert_eq!(told, "eth0: attached in native mode, enforcing, 2 entries\n");

    let forger = Forger::new(&client, &server).expect("a packet socket");
    let mut sent: BTreeMap<IpAddr, Count> = BTreeMap::new();
    for (index, to) in SERVER.into_iter().enumerate() {
        let socket = server.run(|| UdpSocket::bind(port_111(to))).expect("port 111");
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        let mut heard = vec![0; 9000];
        for size in SIZES {
            let payload = vec![7; size];
            for source in [DENIED[index], ALLOWED[index]] {
                let packet = Packet::udp(flow(source, to, 111), &payload);
                *sent.entry(source).or_default() += Count { packets: 1, bytes: packet.bytes().len() as u64 };
                forger.send(&packet).expect("sending");
                // The same through the stack of a client.
                let socket = client.run(|| UdpSocket::bind((source, 0))).expect("a socket");
                *sent.entry(source).or_default() += Count { packets: 1, bytes: packet.bytes().len() as u64 };
                socket.send_to(&payload, port_111(to)).expect("sending");
            }
            for _ in 0..2 {
                let (length, source) = socket.recv_from(&mut heard).expect("a datagram");
                assert_eq!((length, source.ip()), (size, ALLOWED[index]));
            }
        }
    }
    let stats = portguard.stats();
    assert_eq!(stats.totals.allowed, sum(ALLOWED.map(|source| sent[&source])));
    assert_eq!(stats.by_source(), DENIED.into_iter().map(|source| (source, sent[&source])).collect());
    assert_eq!(stats.mode, "native");
}
