//! What a server asks of its clients, and answers that come to port 111.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    SockFlag, SockType, SockaddrLike as _, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use portguard_testkit::net::{Capture, Outcome, RpcServices, rpc};

use super::{MODES, assert_no_answer, guard, ok, on, sources, unguard, wire_of};
use crate::support::{ALLOWED, IFACE, PATIENCE, PORTGUARD, Role, SERVER, SILENCE, Testbed, port_111};

/// Who has the guard.
const CLIENT: Role = Role::Allowed;

#[test]
fn calls_of_a_server_arrive_at_a_guarded_client_only_if_its_list_has_the_server() {
    let testbed = Testbed::new(PORTGUARD);
    let server = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let mut client = RpcServices::start(testbed.host(CLIENT).namespace()).expect("rpcbind");
    client.start_statd().expect("rpc.statd");
    // As lockd and rpc.statd do: a question for the port of a service, and then a call of that.
    let questions = [("udp", 0), ("tcp", 0), ("udp6", 1), ("tcp6", 1)]
        .map(|(transport, family)| format!("rpcinfo -T {transport} {} {} 1", ALLOWED[family], rpc::STATUS));
    for mode in MODES {
        guard(&testbed, CLIENT, mode, &[Role::Server]);
        let mut wire = wire_of(&testbed, CLIENT);
        for question in &questions {
            let told = ok(&testbed.server, question);
            assert!(told.contains("ready and waiting"), "{question}: {told}");
        }
        for address in ALLOWED {
            match server.notify(address, PATIENCE).expect("sm-notify") {
                Outcome::Completed(done) => {
                    assert!(done.stderr.contains("notified successfully"), "{address}: {done:?}");
                }
                Outcome::TimedOut => panic!("{address}: the notice of the restart did not arrive"),
            }
        }
        on(&testbed, CLIENT).assert_counted_as_on(&mut wire, &[]);
        assert_eq!(sources(wire.requests()), SERVER);
        unguard(&testbed, CLIENT);

        guard(&testbed, CLIENT, mode, &[Role::Denied]);
        let mut wire = wire_of(&testbed, CLIENT);
        let mut inside = Capture::start(testbed.host(CLIENT).namespace(), IFACE).expect("a capture");
        assert_no_answer(&testbed.server, &questions);
        for address in ALLOWED {
            let outcome = server.notify(address, SILENCE).expect("sm-notify");
            assert!(matches!(outcome, Outcome::TimedOut), "{address}: {outcome:?}");
        }
        let stats = on(&testbed, CLIENT).assert_counted_as_on(&mut wire, &SERVER);
        assert_eq!(stats.sources.len(), SERVER.len(), "both families have asked");
        assert_eq!(sources(inside.requests()), [] as [IpAddr; 0]);
        unguard(&testbed, CLIENT);
    }
}

/// Sends a datagram from a socket to one of the server, which answers it; returns whether the answer arrives.
fn is_answered(testbed: &Testbed, from: &UdpSocket, server: SocketAddr) -> bool {
    let there = testbed.server.run(|| UdpSocket::bind(server)).expect("a UDP socket");
    there.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    from.send_to(b"question", server).expect("sending");
    let mut heard = [0; 16];
    let (length, client) = there.recv_from(&mut heard).expect("the question arrives");
    assert_eq!((&heard[..length], client), (&b"question"[..], from.local_addr().expect("its address")));
    there.send_to(b"answer", client).expect("sending");
    match from.recv_from(&mut heard) {
        Ok((length, peer)) => {
            assert_eq!((&heard[..length], peer), (&b"answer"[..], server));
            true
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => panic!("{server}: {error}"),
    }
}

/// Whether a connection from port 111 of the client to a port of the server is made within `patience`.
fn is_connected(testbed: &Testbed, client: IpAddr, server: SocketAddr, patience: Duration) -> bool {
    // What has come when it is dropped is all: with it goes what waits for the end of a handshake.
    let _listener = testbed.server.run(|| TcpListener::bind(server)).expect("a TCP socket");
    let from = SockaddrStorage::from(port_111(client));
    let family = from.family().expect("its family");
    let socket = testbed
        .host(CLIENT)
        .run(|| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None))
        .expect("a TCP socket");
    // The same two ports once more, without a wait for what could still be on its way.
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("SO_REUSEADDR");
    setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).expect("SO_LINGER");
    let limit = TimeVal::milliseconds(patience.as_millis() as i64);
    setsockopt(&socket, sockopt::SendTimeout, &limit).expect("SO_SNDTIMEO");
    bind(socket.as_raw_fd(), &from).expect("port 111");
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) => true,
        Err(Errno::EINPROGRESS) => false,
        Err(errno) => panic!("{server}: {errno}"),
    }
}

#[test]
fn answers_to_a_socket_at_port_111_are_lost_unless_the_peer_is_on_the_list() {
    let testbed = Testbed::new(PORTGUARD);
    let udp = |address: IpAddr, port: u16, patience| {
        let socket = testbed.host(CLIENT).run(|| UdpSocket::bind((address, port))).expect("a UDP socket");
        socket.set_read_timeout(Some(patience)).expect("SO_RCVTIMEO");
        socket
    };
    for mode in MODES {
        for listed in [Role::Server, Role::Denied] {
            guard(&testbed, CLIENT, mode, &[listed]);
            // What comes from port 111 to another port passes in any case.
            for (server, client) in SERVER.into_iter().zip(ALLOWED) {
                let elsewhere = udp(client, 0, PATIENCE);
                assert!(is_answered(&testbed, &elsewhere, port_111(server)), "{mode}, {client}, {listed:?}");
            }
            assert_eq!(on(&testbed, CLIENT).stats().packets(), 0, "{mode}, {listed:?}");

            let is_listed = listed == Role::Server;
            let (patience, lost) = if is_listed { (PATIENCE, &[][..]) } else { (SILENCE, &SERVER[..]) };
            let mut wire = wire_of(&testbed, CLIENT);
            for (server, client) in SERVER.into_iter().zip(ALLOWED) {
                let nfs = SocketAddr::new(server, RpcServices::NFS_PORT);
                let at_111 = udp(client, rpc::PORT, patience);
                assert_eq!(is_answered(&testbed, &at_111, nfs), is_listed, "{mode}, {client}, {listed:?}");
                let is_connected = is_connected(&testbed, client, nfs, patience);
                assert_eq!(is_connected, is_listed, "{mode}, {client}, {listed:?}");
            }
            let stats = on(&testbed, CLIENT).assert_counted_as_on(&mut wire, lost);
            assert_eq!(sources(wire.requests()), SERVER, "{mode}, {listed:?}: {stats:?}");
            for source in &stats.sources {
                assert!(source.udp_packets > 0 && source.tcp_packets > 0, "both are lost: {source:?}");
            }
            unguard(&testbed, CLIENT);
        }
    }
}
