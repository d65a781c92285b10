//! What a program at tcx gets to see that is not as it was on the wire: merged, in several buffers, without a tag, without Ethernet.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use portguard_testkit::net::frame::{Packet, Tag};
use portguard_testkit::net::{Capture, Count, Datagrams, Forger, Layout, Virtual, run, wait_until};
use portguard_testkit::testbed::flow;

use super::attach;
use crate::support::{
    ALLOWED, DENIED, IFACE, PATIENCE, PORTGUARD, Role, SERVER, SingleHost, Testbed, Tun, port_111, sum,
};

/// The kernel has taken the outer tag off, and it counts all the same.
#[test]
fn vlan_tags_are_counted_with_the_one_that_the_kernel_has_taken_off() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &["--hook", "tcx"]);
    let attacker = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("an attacker");
    let mut sent = 0;
    for (family, server) in SERVER.into_iter().enumerate() {
        let packet = Packet::udp(flow(DENIED[family], server, 111), &[0; 40]);
        for depth in 1..=6 {
            let tags: Vec<Tag> = (0..depth).map(|tag| Tag::customer(100 + tag)).collect();
            let before = portguard.stats().totals;
            attacker.send_tagged(&packet, &tags).expect("sending");
            sent += 1;
            wait_until("it is counted", PATIENCE, || Ok(portguard.stats().totals.dropped.packets == sent))
                .expect("a drop");
            let after = portguard.stats().totals;
            let grown = |reason| after.by_reason.of(reason).since(before.by_reason.of(reason));
            // Its bytes count from the IP header on.
            let whole = Count { packets: 1, bytes: [68, 88][family] };
            if depth <= 4 {
                assert_eq!(
                    (grown("not_allowed"), grown("too_many_headers").packets),
                    (whole, 0),
                    "{depth} tags"
                );
            } else {
                assert_eq!(
                    (grown("not_allowed").packets, grown("too_many_headers").packets),
                    (0, 1),
                    "{depth} tags"
                );
            }
        }
    }
}

/// What a sender hands over as one large segment counts as the segments that it stands for.
#[test]
fn a_stream_counts_as_the_segments_that_were_merged() {
    const PAYLOAD: usize = 1 << 20;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &["--hook", "tcx"]);
    let mut wire = Capture::start(testbed.switch.namespace(), "server").expect("a capture");
    let server = SERVER[0];
    let listener = testbed.server.run(|| TcpListener::bind(port_111(server))).expect("port 111");
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            std::io::copy(&mut stream, &mut std::io::sink()).expect("reading")
        });
        let mut stream = testbed
            .host(Role::Allowed)
            .run(|| TcpStream::connect_timeout(&port_111(server), PATIENCE))
            .expect("a connection");
        stream.write_all(&vec![7; PAYLOAD]).expect("writing");
    });
    thread::sleep(Duration::from_millis(300));
    let allowed = portguard.stats().totals.allowed;
    let seen = sum(wire.requests().expect("a capture without gaps").into_values());
    assert!(allowed.packets > 2 * seen.packets, "the wire had large segments: {allowed:?}, {seen:?} seen");
    // Each has an IP header of 20 bytes and a TCP header of 32, with time stamps. What was sent once more was seen once more.
    let payload = |count: Count| count.bytes - 52 * count.packets;
    assert!(payload(seen) >= PAYLOAD as u64, "{seen:?}");
    assert_eq!(payload(allowed), payload(seen), "{allowed:?}, {seen:?} seen");
}

/// A rate counts datagrams, also those that come as one.
#[test]
fn a_rate_counts_merged_datagrams_as_what_they_are() {
    // Eight to a packet.
    const SEGMENTS: usize = 8;
    const SIZE: i32 = 40;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.lists.write_text(
        "allowlist.yaml",
        &format!("allow:\n  - prefix: {}/32\n    rate: 20/s\n  - {}/128\n", ALLOWED[0], ALLOWED[1]),
    );
    portguard.ok(&["attach", IFACE, "--hook", "tcx", "--allowlist", &list]);
    let socket = testbed.host(Role::Allowed).run(|| UdpSocket::bind((ALLOWED[0], 0))).expect("a socket");
    setsockopt(&socket, sockopt::UdpGsoSegment, &SIZE).expect("UDP_SEGMENT");
    // The second has begun anew at most twice meanwhile.
    let begun = Instant::now();
    for _ in 0..100 {
        socket.send_to(&[0; SEGMENTS * SIZE as usize], port_111(SERVER[0])).expect("sending");
    }
    let seconds = begun.elapsed().as_secs() + 2;
    let totals = portguard.stats_of(100 * SEGMENTS as u64).totals;
    let (allowed, exceeded) = (totals.allowed, totals.by_reason.of("rate_exceeded"));
    assert_eq!(allowed.packets + exceeded.packets, 100 * SEGMENTS as u64, "{totals:?}");
    // Two whole packets of eight fit into 20, and four datagrams more do not make a third.
    assert!(allowed.packets >= 16 && allowed.packets <= 16 * seconds, "{allowed:?} in {seconds} s");
    assert_eq!(allowed.packets % SEGMENTS as u64, 0, "{allowed:?}");
}

/// Where the headers of a packet are, and how many datagrams it stands for, does not matter: a virtual machine hands over both as it likes.
#[test]
fn packets_in_several_buffers_and_several_in_one_are_judged_and_counted_as_what_they_are() {
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    /// A packet of less than a page has one buffer.
    const LONG: usize = 4500;
    const DATAGRAM: u16 = 40;
    const DATAGRAMS: u16 = 5;
    for ethernet in [false, true] {
        let host = SingleHost::bare(PORTGUARD);
        let portguard = host.portguard();
        let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
        let device = Virtual::new(&host.namespace, ethernet);
        let mac = if ethernet { "link set virtual0 address 02:00:00:00:00:01\n" } else { "" };
        host.namespace
            .ip(&format!("{mac}link set virtual0 mtu 9000\nlink set virtual0 up"))
            .expect("a device");
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
            host.namespace.add_address(Virtual::INTERFACE, address).expect("an address");
        }
        portguard.ok(&["attach", Virtual::INTERFACE, "--hook", "tcx", "--allowlist", &list]);
        let link = if ethernet { 14 } else { 0 };
        let frame = |packet: &Packet| {
            if ethernet { packet.frame([2; 6], MAC, &[]) } else { packet.bytes().to_vec() }
        };
        let (mut allowed, mut denied) = (Count::default(), Count::default());
        for (family, server) in SERVER.into_iter().enumerate() {
            let socket = host.namespace.run(|| UdpSocket::bind(port_111(server))).expect("port 111");
            socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            // From within the IP header to behind the header of a call.
            for first_len in [1, 19, 20, 21, 27, 28, 39, 40, 47, 48, 60, 100].map(|length| link + length) {
                for (source, count) in [(DENIED[family], &mut denied), (ALLOWED[family], &mut allowed)] {
                    for packet in [
                        Packet::udp(flow(source, server, 111), &[7; LONG]),
                        Packet::tcp_data(flow(source, server, 111), &[7; LONG]),
                        // Nobody's business.
                        Packet::udp(flow(source, server, 112), &[7; LONG]),
                    ] {
                        device.send(&frame(&packet), Layout { first_len, datagrams: None });
                    }
                    let headers = [20, 40][family];
                    *count += Count { packets: 2, bytes: (2 * (headers + LONG) + 8 + 20) as u64 };
                }
                let (length, asker) = socket.recv_from(&mut [0; 9000]).expect("a datagram");
                assert_eq!((length, asker.ip()), (LONG, ALLOWED[family]), "{first_len}");
            }
            let ip = [20, 40][family];
            let datagrams = Some(Datagrams { header_at: link + ip, size: DATAGRAM });
            for (source, count) in [(DENIED[family], &mut denied), (ALLOWED[family], &mut allowed)] {
                let packet = Packet::udp(flow(source, server, 111), &[7; (DATAGRAM * DATAGRAMS) as usize]);
                device.send(&frame(&packet), Layout { first_len: link + ip + 8, datagrams });
                let packets = u64::from(DATAGRAMS);
                *count += Count { packets, bytes: packets * u64::from(ip + 8 + DATAGRAM) };
            }
        }
        let totals = portguard.stats_of(allowed.packets + denied.packets).totals;
        assert_eq!((totals.allowed, totals.dropped), (allowed, denied), "Ethernet: {ethernet}");
        assert_eq!(totals.by_reason.of("not_allowed"), denied, "{totals:?}");
    }
}

/// Tags of priority may stand in front of a packet on any device, and Linux takes two of them off. Only what the device says of the packet
/// (`skb->protocol`) shows that they are there.
#[test]
fn tags_of_priority_in_front_of_a_packet_without_ethernet_hide_nothing() {
    const VLAN: u16 = 0x8100;
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    let tun = Tun::with_information(&host.namespace);
    host.namespace.ip("link set tun0 up").expect("a device");
    for address in ["192.0.2.1/24", "2001:db8::1/64"] {
        host.namespace.add_address(Tun::INTERFACE, address).expect("an address");
    }
    host.namespace.ip("route add default dev tun0\n-6 route add default dev tun0").expect("routes");
    let families = [(0x0800, 0), (0x86dd, 1)];
    let send = |ethertype: u16, source, server, tags: usize| {
        let packet = Packet::udp(flow(source, server, 111), b"who?");
        let mut told: Vec<u16> = vec![VLAN; tags];
        told.push(ethertype);
        let behind: Vec<u8> =
            told[1..].iter().flat_map(|next| [&[0, 0][..], &next.to_be_bytes()].concat()).collect();
        tun.send_as(told[0], &[&behind, packet.bytes()].concat());
    };
    let listen = |server| {
        let socket = host.namespace.run(|| UdpSocket::bind(port_111(server))).expect("port 111");
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        socket
    };
    for (ethertype, family) in families {
        let socket = listen(SERVER[family]);
        for tags in 0..=2 {
            send(ethertype, DENIED[family], SERVER[family], tags);
            let asker = socket.recv_from(&mut [0; 64]).expect("without a guard, everybody is heard").1.ip();
            assert_eq!(asker, DENIED[family], "{tags} tags");
        }
    }
    portguard.ok(&["attach", Tun::INTERFACE, "--hook", "tcx", "--allowlist", &list]);
    for (ethertype, family) in families {
        let socket = listen(SERVER[family]);
        for tags in 0..=2 {
            send(ethertype, DENIED[family], SERVER[family], tags);
            send(ethertype, ALLOWED[family], SERVER[family], tags);
            let asker = socket.recv_from(&mut [0; 64]).expect("a datagram").1.ip();
            assert_eq!(asker, ALLOWED[family], "{tags} tags");
        }
    }
    let totals = portguard.stats_of(12).totals;
    let bytes = 3 * (20 + 40 + 2 * (8 + 4));
    let half = Count { packets: 6, bytes };
    assert_eq!((totals.allowed, totals.by_reason.of("not_allowed")), (half, half), "{totals:?}");
}

/// A packet that is redirected from a device without Ethernet to one with Ethernet has no Ethernet header in front of it there.
#[test]
fn what_is_redirected_from_a_device_without_ethernet_is_judged() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    let tun = Tun::new(&host.namespace);
    host.namespace.ip("link set tun0 up").expect("a device");
    for address in ["192.0.2.1/24", "2001:db8::1/64"] {
        host.namespace.add_address(IFACE, address).expect("an address");
    }
    host.namespace.ip("route add default dev eth0\n-6 route add default dev eth0").expect("routes");
    for line in [
        "qdisc add dev tun0 clsact",
        "filter add dev tun0 ingress protocol all u32 match u32 0 0 action mirred ingress redirect dev eth0",
    ] {
        run(host.namespace.command("tc").args(line.split(' '))).expect("tc");
    }
    let sockets = SERVER.map(|server| {
        let socket = host.namespace.run(|| UdpSocket::bind(port_111(server))).expect("port 111");
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        socket
    });
    let send = |source, server| tun.send(&Packet::udp(flow(source, server, 111), b"who?"));
    for (family, socket) in sockets.iter().enumerate() {
        send(DENIED[family], SERVER[family]);
        let asker = socket.recv_from(&mut [0; 64]).expect("without a guard, everybody is heard").1.ip();
        assert_eq!(asker, DENIED[family]);
    }
    portguard.ok(&["attach", IFACE, "--hook", "tcx", "--allowlist", &list]);
    for (family, socket) in sockets.iter().enumerate() {
        send(DENIED[family], SERVER[family]);
        send(ALLOWED[family], SERVER[family]);
        let asker = socket.recv_from(&mut [0; 64]).expect("a datagram").1.ip();
        assert_eq!(asker, ALLOWED[family]);
    }
    let totals = portguard.stats_of(4).totals;
    let half = Count { packets: 2, bytes: 20 + 40 + 2 * (8 + 4) };
    assert_eq!((totals.allowed, totals.by_reason.of("not_allowed")), (half, half), "{totals:?}");
}
