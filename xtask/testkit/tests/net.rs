//! The network itself: what the demo, the tests and the bench stand on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use portguard_testkit::net::frame::{Packet, Tag};
use portguard_testkit::net::{
    Capture, Count, End, Forger, Host, Namespace, Outcome, Process, RpcServices, Switch, Veth,
};
use portguard_testkit::net::{rpc, run, run_within, stale};
use portguard_testkit::testbed::{ALLOWED, DENIED, OTHER, SERVER, flow};

const PATIENCE: Duration = Duration::from_secs(2);

fn exists(name: &str) -> bool {
    run(Command::new("ip").args(["netns", "list"]))
        .unwrap()
        .stdout
        .lines()
        .any(|line| line.split(' ').next() == Some(name))
}

#[test]
fn a_namespace_comes_and_goes_with_all_that_is_inside() {
    let namespace = Namespace::new("gone").unwrap();
    let name = namespace.name().to_owned();
    assert!(exists(&name));
    assert_eq!(namespace.ifindex("lo").unwrap(), 1);
    assert!(namespace.ifindex("eth0").is_err(), "nothing but lo is inside");

    // Its parent forgets it: only the namespace knows that it is there.
    let shell = run(namespace.command("sh").args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])).unwrap();
    let orphan = format!("/proc/{}", shell.stdout.trim());
    assert!(std::fs::exists(&orphan).unwrap());

    drop(namespace);
    assert!(!exists(&name));
    portguard_testkit::net::wait_until("the orphan is gone", PATIENCE, || Ok(!is_alive(&orphan))).unwrap();
}

/// Whether a process still runs; a zombie, whose adoptive parent is slow to bury it, does not.
fn is_alive(process: &str) -> bool {
    std::fs::read_to_string(format!("{process}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

#[test]
fn what_a_killed_run_left_behind_is_found() {
    // A process that has ended and is reaped: its id is free.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let leftover = format!("pg-{}-0-leftover", ended.id());
    run(Command::new("ip").args(["netns", "add", &leftover])).unwrap();
    let living = Namespace::new("living").unwrap();

    let stale = stale().unwrap();
    assert!(stale.iter().any(|namespace| namespace.name() == leftover));
    assert!(!stale.iter().any(|namespace| namespace.name() == living.name()));
    drop(stale);
    assert!(!exists(&leftover));
}

#[test]
fn sockets_and_commands_are_inside() {
    let (a, b, outside) =
        (Namespace::new("a").unwrap(), Namespace::new("b").unwrap(), Namespace::new("outside").unwrap());
    let (plug_a, plug_b) = (
        End::new(&a, "left").address("192.0.2.1/24").address("2001:db8::1/64"),
        End::new(&b, "right").address("192.0.2.2/24").address("2001:db8::2/64"),
    );
    Veth::new().mtu(9000).connect(&plug_a, &plug_b).unwrap();
    assert!(run(b.command("ip").args(["link", "show", "right"])).unwrap().stdout.contains("mtu 9000"));
    assert!(run(b.command("ip").args(["link", "show", "left"])).is_err(), "the other end is elsewhere");

    for server in ["192.0.2.1:7000", "[2001:db8::1]:7000"] {
        let listener = a.run(|| TcpListener::bind(server)).unwrap();
        let mut client = b.run(|| TcpStream::connect(server)).unwrap();
        client.write_all(b"over the cable").unwrap();
        drop(client);
        let mut heard = String::new();
        listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "over the cable");
        let error = outside.run(|| TcpStream::connect(server)).unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::NetworkUnreachable,
            "a third namespace has no way to it"
        );
    }
}

#[test]
fn a_process_is_bounded_and_its_output_kept() {
    let namespace = Namespace::new("process").unwrap();
    let limit = Duration::from_millis(100);
    assert!(matches!(run_within(limit, namespace.command("sleep").arg("1000")).unwrap(), Outcome::TimedOut));

    let mut failing =
        Process::spawn(namespace.command("sh").args(["-c", "echo its reason >&2; exit 7"])).unwrap();
    let error = failing.ready("never", PATIENCE, || Ok(false)).unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains("its reason") && told.contains("exit status: 7"), "{told}");

    let error = Process::spawn(&mut namespace.command("no-such-daemon")).unwrap_err();
    assert!(error.to_string().contains("cargo xtask setup"), "{error}");
}

#[test]
fn a_forged_datagram_is_delivered_to_a_real_socket_if_its_checksum_is_right() {
    let switch = Switch::new(Veth::new()).unwrap();
    let server = switch.host("server", &SERVER).unwrap();
    let attacker = switch.host("attacker", &DENIED).unwrap();
    let forger = Forger::new(&attacker, &server).unwrap();

    for (to, victim) in SERVER.into_iter().zip(OTHER) {
        let socket = server.run(|| UdpSocket::bind((to, 4000))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = [0; 64];

        forger.send(&Packet::udp(flow(victim, to, 4000), b"odd")).unwrap();
        let (length, from) = socket.recv_from(&mut heard).unwrap();
        assert_eq!((&heard[..length], from), (&b"odd"[..], SocketAddr::new(victim, 40_000)));

        // A tag for VLAN 0 marks a priority only; whoever gets the frame takes it off.
        forger.send_tagged(&Packet::udp(flow(victim, to, 4000), b"tagged"), &[Tag::customer(0)]).unwrap();
        assert_eq!(socket.recv(&mut heard).unwrap(), 6);
    }
}

#[test]
fn the_kernel_does_look_at_the_checksums_of_forged_packets() {
    let switch = Switch::new(Veth::new()).unwrap();
    let server = switch.host("server", &SERVER).unwrap();
    let attacker = switch.host("attacker", &DENIED).unwrap();
    let (raw, target) = (
        portguard_testkit::net::PacketSocket::open(attacker.namespace(), Host::INTERFACE).unwrap(),
        portguard_testkit::net::PacketSocket::open(server.namespace(), Host::INTERFACE).unwrap().mac(),
    );
    for (to, victim) in SERVER.into_iter().zip(OTHER) {
        let socket = server.run(|| UdpSocket::bind((to, 4000))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = [0; 64];
        let mut broken = Packet::udp(flow(victim, to, 4000), b"broken").frame(raw.mac(), target, &[]);
        *broken.last_mut().unwrap() ^= 1;
        raw.send(&broken).unwrap();
        raw.send(&Packet::udp(flow(victim, to, 4000), b"whole").frame(raw.mac(), target, &[])).unwrap();
        assert_eq!(socket.recv(&mut heard).unwrap(), b"whole".len(), "the first to come is the second sent");
    }
}

#[test]
fn a_forged_syn_is_answered_to_the_victim() {
    let switch = Switch::new(Veth::new()).unwrap();
    let server = switch.host("server", &SERVER).unwrap();
    let attacker = switch.host("attacker", &DENIED).unwrap();
    let victim = switch.host("victim", &OTHER).unwrap();
    for (to, forged) in SERVER.into_iter().zip(OTHER) {
        let _listener = server.run(|| TcpListener::bind((to, 4001))).unwrap();
        let wire = portguard_testkit::net::PacketSocket::open(victim.namespace(), Host::INTERFACE).unwrap();
        Forger::new(&attacker, &server).unwrap().send(&Packet::tcp_syn(flow(forged, to, 4001))).unwrap();
        // The ports of the SYN, turned round, and in front of them its protocol.
        let ports = [4001_u16.to_be_bytes(), 40_000_u16.to_be_bytes()].concat();
        loop {
            let frame = wire.receive(PATIENCE).unwrap().expect("a SYN-ACK");
            if frame.windows(4).any(|window| window == ports) {
                break;
            }
        }
    }
}

#[test]
fn rpcbind_answers_all_who_ask_and_the_witness_counts_them() {
    let switch = Switch::new(Veth::new()).unwrap();
    let server = switch.host("server", &SERVER).unwrap();
    let clients = [switch.host("client", &ALLOWED).unwrap(), switch.host("stranger", &DENIED).unwrap()];
    let mut services = RpcServices::start(server.namespace()).unwrap();
    assert!(services.registrations().iter().all(|entry| entry.program == rpc::PROGRAM));
    services.start_statd().unwrap();
    services.start_mountd("192.0.2.0/24").unwrap();

    let mut port = Capture::start(switch.namespace(), "server").unwrap();
    for client in &clients {
        for to in SERVER {
            let list = client.run(|| rpc::dump(SocketAddr::new(to, rpc::PORT), PATIENCE)).unwrap().unwrap();
            for program in [rpc::PROGRAM, rpc::STATUS, rpc::MOUNT] {
                assert!(list.iter().any(|entry| entry.program == program), "{program} in {list:?}");
            }
        }
    }
    let requests = port.requests().unwrap();
    let expected = |bytes| Count { packets: 1, bytes };
    assert_eq!(
        requests.into_iter().collect::<Vec<_>>(),
        [
            (ALLOWED[0], expected(20 + 8 + 40)),
            (DENIED[0], expected(20 + 8 + 40)),
            (ALLOWED[1], expected(40 + 8 + 40)),
            (DENIED[1], expected(40 + 8 + 40)),
        ]
    );

    let host = SERVER[0].to_string();
    for client in &clients {
        let list = run(client.command("rpcinfo").args(["-p", &host])).unwrap().stdout;
        assert!(list.contains("portmapper") && list.contains("status") && list.contains("mountd"), "{list}");
        let ping = run(client.command("rpcinfo").args(["-T", "udp", &host, "100000", "2"])).unwrap().stdout;
        assert_eq!(ping.trim(), "program 100000 version 2 ready and waiting");
        let exports = run(client.command("showmount").args(["-e", &host])).unwrap().stdout;
        assert!(exports.contains(&format!("{} 192.0.2.0/24", RpcServices::EXPORT)), "{exports}");
    }
}

#[test]
fn a_forged_dump_makes_rpcbind_hit_the_victim() {
    let switch = Switch::new(Veth::new()).unwrap();
    let server = switch.host("server", &SERVER).unwrap();
    let attacker = switch.host("attacker", &DENIED).unwrap();
    let victim = switch.host("victim", &OTHER).unwrap();
    let mut services = RpcServices::start(server.namespace()).unwrap();
    services.start_statd().unwrap();
    services.start_mountd("192.0.2.0/24").unwrap();
    let forger = Forger::new(&attacker, &server).unwrap();

    for (to, forged) in SERVER.into_iter().zip(OTHER) {
        let mut wire = Capture::start(victim.namespace(), Host::INTERFACE).unwrap();
        forger.send(&Packet::udp(flow(forged, to, rpc::PORT), &rpc::dump_call())).unwrap();
        portguard_testkit::net::wait_until("the victim is hit", PATIENCE, || {
            Ok(wire.replies(to)?.datagrams == 1)
        })
        .unwrap();
        let hit = wire.replies(to).unwrap();
        // More than one frame carries it: all fragments are counted, with an IP header each.
        assert!(hit.payload > 1500 && hit.wire.packets == hit.payload.div_ceil(1480), "{hit:?}");
        assert!(hit.wire.bytes >= hit.payload + 8 + hit.wire.packets * 20, "{hit:?}");
    }
}

#[test]
fn rpcbind_of_one_host_knows_nothing_of_another_ones() {
    let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
    let mut services_a = RpcServices::start(&a).unwrap();
    let services_b = RpcServices::start(&b).unwrap();
    services_a.start_statd().unwrap();
    let has_statd = |services: &RpcServices<'_>| {
        services.registrations().iter().any(|entry| entry.program == rpc::STATUS)
    };
    assert!(has_statd(&services_a) && !has_statd(&services_b));
}

#[test]
fn ganesha_serves_its_host_alone_and_ends_with_the_value() {
    let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
    let connects = |namespace: &Namespace| {
        [RpcServices::NFS_PORT, RpcServices::MOUNTD_PORT]
            .map(|port| namespace.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()))
    };
    let mut services = RpcServices::start(&a).unwrap();
    services.start_ganesha().unwrap();
    assert_eq!((connects(&a), connects(&b)), ([true; 2], [false; 2]));
    let registrations = services.registrations();
    for program in [rpc::MOUNT, rpc::RQUOTA, rpc::NLM] {
        assert!(registrations.iter().any(|entry| entry.program == program), "{program} in {registrations:?}");
    }
    drop(services);
    assert_eq!(connects(&a), [false; 2]);
}
