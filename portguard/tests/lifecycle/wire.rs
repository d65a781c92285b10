//! Who gets an answer, who does not, and what the counters make of it, against a witness on the wire.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;

use portguard_testkit::net::{Capture, Outcome, RpcServices, rpc, run_within};

use crate::support::{DENIED, IFACE, PATIENCE, PORTGUARD, Role, SERVER, SILENCE, Testbed, port_111};

/// rpcinfo's question whether rpcbind is there, over each of its transports.
fn questions() -> [[String; 5]; 4] {
    let [v4, v6] = SERVER.map(|address| address.to_string());
    [("udp", &v4, "2"), ("tcp", &v4, "2"), ("udp6", &v6, "3"), ("tcp6", &v6, "3")]
        .map(|(netid, server, version)| ["-T", netid, server, "100000", version].map(str::to_owned))
}

/// Asks all questions at once; returns what each came to.
fn ask(testbed: &Testbed, role: Role) -> [Outcome; 4] {
    let patience = if role == Role::Allowed { PATIENCE } else { SILENCE };
    thread::scope(|scope| {
        questions()
            .map(|question| {
                scope.spawn(move || {
                    run_within(patience, testbed.host(role).command("rpcinfo").args(question))
                        .expect("rpcinfo")
                })
            })
            .map(|thread| thread.join().expect("asking"))
    })
}

fn assert_answered(testbed: &Testbed, role: Role) {
    for (outcome, question) in ask(testbed, role).into_iter().zip(questions()) {
        match outcome {
            Outcome::Completed(done) if done.status.success() => {
                assert!(done.stdout.contains("ready and waiting"), "{role:?}: {done:?}");
            }
            other => panic!("{role:?}: rpcinfo {question:?}: {other:?}"),
        }
    }
}

fn assert_not_answered(testbed: &Testbed, role: Role) {
    for (outcome, question) in ask(testbed, role).into_iter().zip(questions()) {
        assert!(matches!(outcome, Outcome::TimedOut), "{role:?}: rpcinfo {question:?}: {outcome:?}");
    }
}

/// The processes on the server that run the binary under test.
fn portguards(testbed: &Testbed) -> Vec<String> {
    let net = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    let server = testbed.server.run(|| net(Path::new("/proc/thread-self")));
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|process| fs::read_link(process.join("exe")).is_ok_and(|exe| exe == Path::new(PORTGUARD)))
        .filter(|process| net(process) == server)
        .map(|process| process.display().to_string())
        .collect()
}

/// Compares the counters with what the switch has handed to the server.
fn assert_counted_as_on_the_wire(testbed: &Testbed, wire: &mut Capture) {
    let stats = testbed.portguard().assert_counted_as_on(wire, &DENIED);
    assert_eq!(stats.sources.len(), DENIED.len(), "both families of the denied host have asked");
    for source in &stats.sources {
        assert!(source.udp_packets > 0 && source.tcp_packets > 0, "it has asked over both: {source:?}");
    }
}

#[test]
fn allowed_sources_are_answered_and_denied_ones_are_not_and_all_are_counted() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let portguard = testbed.portguard();
    for role in Role::CLIENTS {
        assert_answered(&testbed, role);
    }

    let attached = portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list()]);
    assert_eq!(attached, "eth0: attached in native mode, enforcing, 2 entries\n");
    assert_eq!(portguards(&testbed), [""; 0], "the process is gone");
    let status = portguard.status();
    assert_eq!((status.interface.as_str(), status.mode.as_str()), (IFACE, "native"));
    assert!(status.enforcing);
    assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (1, 1));
    assert_eq!(status.ifindex, testbed.server.namespace().ifindex(IFACE).expect("its index"));

    let mut wire = Capture::start(testbed.switch.namespace(), "server").expect("a witness");
    thread::scope(|scope| {
        scope.spawn(|| assert_not_answered(&testbed, Role::Denied));
        scope.spawn(|| assert_answered(&testbed, Role::Allowed));
        for server in SERVER {
            let client = testbed.host(Role::Denied);
            scope.spawn(move || {
                let error =
                    client.run(|| TcpStream::connect_timeout(&port_111(server), SILENCE)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::TimedOut, "neither SYN-ACK nor RST: {error}");
            });
        }
    });
    assert_counted_as_on_the_wire(&testbed, &mut wire);
}

#[test]
fn generic_mode_does_the_same() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let portguard = testbed.portguard();
    let attached = portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list(), "--mode", "generic"]);
    assert_eq!(attached, "eth0: attached in generic mode, enforcing, 2 entries\n");
    assert_eq!(portguard.status().mode, "generic");

    let mut wire = Capture::start(testbed.switch.namespace(), "server").expect("a witness");
    thread::scope(|scope| {
        scope.spawn(|| assert_not_answered(&testbed, Role::Denied));
        scope.spawn(|| assert_answered(&testbed, Role::Allowed));
    });
    assert_counted_as_on_the_wire(&testbed, &mut wire);

    let error = portguard.fails(1, &["attach", IFACE, "--allowlist", &testbed.list(), "--mode", "native"]);
    assert!(error.contains("cannot change the mode from generic to native"), "{error}");
    assert_eq!(portguard.status().mode, "generic");
}

#[test]
fn other_ports_are_nobodys_business() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let denied = testbed.host(Role::Denied);
    for (server, client) in SERVER.into_iter().zip(DENIED) {
        // The source port is no business either. One socket for all: a process that another test has just forked may
        // hold on to a closed one for a moment.
        let socket = denied.run(|| UdpSocket::bind(port_111(client))).expect("a UDP socket");
        // Neighbours of the port, one whose bytes are its own turned round, and one that ends in its byte.
        for port in [110, 112, 111_u16.swap_bytes(), 0x016f, 2049] {
            let to = SocketAddr::new(server, port);
            let echo = testbed.server.run(|| UdpSocket::bind(to)).expect("a UDP socket");
            echo.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
            socket.send_to(b"hello", to).expect("sending");
            let mut heard = [0; 8];
            let (length, from) =
                echo.recv_from(&mut heard).unwrap_or_else(|error| panic!("UDP {to}: {error}"));
            assert_eq!((&heard[..length], from), (&b"hello"[..], port_111(client)));

            let listener = testbed.server.run(|| TcpListener::bind(to)).expect("a TCP socket");
            let client = denied.run(|| TcpStream::connect_timeout(&to, PATIENCE));
            client.unwrap_or_else(|error| panic!("TCP {to}: {error}"));
            drop(listener);
        }
    }
    assert_eq!(testbed.portguard().stats().packets(), 0);

    // Answers to what the server itself asks of somebody's port 111 come from that port, and are let in.
    let rpcbind = denied.run(|| UdpSocket::bind(port_111(DENIED[0]))).expect("a UDP socket");
    let list = thread::scope(|scope| {
        scope.spawn(|| {
            let mut question = [0; 64];
            let (length, from) = rpcbind.recv_from(&mut question).expect("the question");
            assert_eq!(length, rpc::dump_call().len());
            // The call turned into its own, useless, answer.
            rpcbind.send_to(&question[..length], from).expect("sending");
        });
        testbed.server.run(|| rpc::dump(port_111(DENIED[0]), PATIENCE))
    });
    let error = list.expect_err("what came back is no answer, but it came").to_string();
    assert!(error.contains("refused"), "{error}");
}
