//! Lists that permit lookups only over UDP: a forged call in the name of a listed client brings that client nothing, and its own
//! commands work as before.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};
use portguard::guard::Decision;
use portguard_common::calls::UdpCalls;
use portguard_common::rpc::Procedure;
use portguard_testkit::documents::explain::Document;
use portguard_testkit::net::frame::{Packet, Tag};
use portguard_testkit::net::{Capture, Count, Forger, Host, Replies, RpcServices, rpc, run, wait_until};
use portguard_testkit::testbed::flow;

use crate::support::{ALLOWED, IFACE, Output, PATIENCE, PORTGUARD, Role, SERVER, SILENCE, Testbed, port_111};

/// The list of the testbed's allowed host, which permits these calls.
fn list(testbed: &Testbed, calls: UdpCalls) -> String {
    let prefixes = Role::Allowed.prefixes().map(|prefix| format!("  - {prefix}\n")).concat();
    testbed.lists.write_text("calls.yaml", &format!("udp: {}\nallow:\n{prefixes}", calls.key()))
}

/// A call without credentials.
fn call(version: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
    let words = [&[7, 0, 2, rpc::PROGRAM, version, procedure, 0, 0, 0, 0][..], arguments].concat();
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

fn null() -> Vec<u8> {
    call(2, 0, &[])
}

/// The calls whose answers are larger than they are, or that act in the name of somebody else; and cut and longer ones.
fn harmful() -> Vec<Vec<u8>> {
    let mut calls: Vec<_> = (2..=4).map(|version| call(version, 4, &[])).collect();
    calls.push(call(4, 12, &[]));
    // GETADDRLIST of a service, and CALLIT of its NULL.
    calls.push(call(4, 11, &[rpc::PROGRAM, 4, 3, u32::from_be_bytes(*b"udp\0"), 0, 0]));
    calls.push(call(2, 5, &[rpc::PROGRAM, 2, 0, 0]));
    calls.push(rpc::dump_call()[..24].to_vec());
    calls.push([null(), rpc::dump_call().to_vec()].concat());
    calls
}

/// The forms in which a datagram reaches the server.
#[derive(Debug, Clone, Copy)]
enum Form {
    Whole,
    Options,
    /// Two fragments.
    Fragments,
    /// Behind tags of priority, which belong to no VLAN: Linux takes what they carry for the interface itself.
    Tagged(&'static [Tag]),
    /// With a UDP length of 0, over IPv6.
    WithoutLength,
}

impl Form {
    /// Those of a family: 0 is IPv4.
    fn of(family: usize) -> &'static [Self] {
        const ONE: Form = Form::Tagged(&[Tag { tpid: 0x8100, vlan: 0 }]);
        const TWO: Form = Form::Tagged(&[Tag { tpid: 0x88a8, vlan: 0 }, Tag { tpid: 0x8100, vlan: 0 }]);
        const ALL: [Form; 6] = [Form::Whole, Form::Options, Form::Fragments, ONE, TWO, Form::WithoutLength];
        if family == 0 { &ALL[..5] } else { &ALL }
    }

    /// Sends a datagram. Returns how many packets are counted: what follows the first fragment has no port.
    fn send(self, attacker: &Forger, packet: &Packet, identification: u16) -> anyhow::Result<u64> {
        match self {
            Self::Whole => attacker.send(packet)?,
            Self::Options => attacker.send(&packet.with_options())?,
            Self::Fragments => {
                packet.fragments(identification).iter().try_for_each(|part| attacker.send(part))?;
            }
            Self::Tagged(tags) => attacker.send_tagged(packet, tags)?,
            Self::WithoutLength => attacker.send(&packet.without_udp_length())?,
        }
        Ok(1)
    }
}

/// The attacker, and the host in whose name it asks.
struct Attack<'a> {
    testbed: &'a Testbed,
    family: usize,
    attacker: Forger,
    victim: Capture,
}

impl<'a> Attack<'a> {
    fn new(testbed: &'a Testbed, family: usize) -> Self {
        let attacker = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("an attacker");
        let victim = Capture::start(testbed.switch.namespace(), Role::Allowed.name()).expect("a capture");
        Self { testbed, family, attacker, victim }
    }

    /// Sends each harmful call so many times. Returns how many packets are counted.
    fn send(&self, form: Form, each: usize) -> u64 {
        let portguard = self.testbed.portguard();
        let before = portguard.stats().packets();
        let mut sent = 0;
        for round in 0..each {
            for (number, message) in harmful().into_iter().enumerate() {
                let flow = flow(ALLOWED[self.family], SERVER[self.family], rpc::PORT);
                let identification = (round << 8 | number) as u16;
                let packet = Packet::udp(flow, &message);
                sent += form.send(&self.attacker, &packet, identification).expect("sending");
            }
            // rpcbind's socket has room for some hundred.
            if portguard.stats().packets() < before + sent {
                portguard.stats_of(before + sent);
            }
        }
        sent
    }

    /// What rpcbind's answers have brought to the victim since the attack began.
    fn brought(&mut self) -> Replies {
        self.victim.replies(SERVER[self.family]).expect("a capture without gaps")
    }
}

/// What a client does with rpcbind.
fn assert_served(client: &Host) {
    for (server, six) in SERVER.into_iter().zip(["", "6"]) {
        for line in [
            format!("-p {server}"),
            format!("-s {server}"),
            format!("-T udp{six} {server} 100000 3"),
            format!("-T tcp{six} {server} 100000 4"),
            format!("-T udp{six} {server} {} 1", rpc::STATUS),
        ] {
            let told = Output::of(client.command("rpcinfo").args(line.split(' ')));
            assert_eq!(told.code, 0, "rpcinfo {line}: {told:?}");
        }
    }
}

#[test]
fn forged_calls_in_the_name_of_a_listed_client_bring_it_nothing() {
    const EACH: usize = 25;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let mut services = RpcServices::start_with(testbed.server.namespace(), &["-r"]).expect("rpcbind");
    services.start_statd().expect("rpc.statd");
    for place in [["--mode", "native"], ["--mode", "generic"], ["--hook", "tcx"]] {
        let [_, mode] = place;
        let all = list(&testbed, UdpCalls::All);
        portguard.ok(&[&["attach", IFACE, "--allowlist", &all], &place[..]].concat());
        for family in [0, 1] {
            for &form in Form::of(family) {
                let mut attack = Attack::new(&testbed, family);
                let sent = attack.send(form, 2);
                let mut replies = Replies::default();
                let found = wait_until("a reflector", PATIENCE, || {
                    replies = attack.brought();
                    Ok(replies.payload > 40 * sent)
                });
                found.unwrap_or_else(|error| panic!("{mode}, {form:?}: {error:#}: {replies:?}"));
            }
            portguard.ok(&["stats", "--reset"]);
        }
        list(&testbed, UdpCalls::Lookups);
        let told = portguard.ok(&["reload", IFACE]);
        assert!(told.contains("2 unchanged, udp all -> lookups, generation 1 -> 2"), "{told}");
        assert_eq!(portguard.status().allowlist.udp, "lookups");
        for (family, client) in ALLOWED.into_iter().enumerate() {
            let mut attack = Attack::new(&testbed, family);
            let sent: u64 = Form::of(family).iter().map(|form| attack.send(*form, EACH)).sum();
            assert!(sent >= 1000, "{sent} calls");
            thread::sleep(SILENCE);
            assert_eq!(attack.brought(), Replies::default(), "{mode}: {sent} calls were forged");
            let stats = portguard.stats();
            assert_eq!(stats.totals.by_reason.of("call_not_allowed").packets, sent, "{mode}: {stats:?}");
            assert_eq!(stats.by_source()[&client].packets, sent, "{mode}: they are attributed: {stats:?}");
            portguard.ok(&["stats", "--reset"]);
        }
        assert_served(testbed.host(Role::Allowed));
        let stats = portguard.stats();
        assert_eq!(stats.totals.dropped.packets, 0, "{mode}: nothing that a client does: {stats:?}");
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn datagrams_that_the_kernel_has_merged_bring_no_other_call_in() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let merged = [null(), rpc::dump_call().to_vec()].concat();
    // Generic XDP sees one packet, and tcx how many it stands for.
    let generic = (["--mode", "generic"], 1);
    let tcx = (["--hook", "tcx"], 2);
    for ((place, packets), calls, brings) in [
        (generic, UdpCalls::All, true),
        (generic, UdpCalls::Lookups, false),
        (tcx, UdpCalls::All, true),
        (tcx, UdpCalls::Lookups, false),
    ] {
        portguard.ok(&[&["attach", IFACE, "--allowlist", &list(&testbed, calls)], &place[..]].concat());
        let mut counted = Count::default();
        for (server, client) in SERVER.into_iter().zip(ALLOWED) {
            let mut wire =
                Capture::start(testbed.switch.namespace(), Role::Allowed.name()).expect("a capture");
            let socket = testbed.host(Role::Allowed).run(|| UdpSocket::bind((client, 0))).expect("a socket");
            setsockopt(&socket, sockopt::UdpGsoSegment, &(null().len() as libc::c_int)).expect("UDP_SEGMENT");
            let sent = socket.send_to(&merged, port_111(server)).expect("sending");
            assert_eq!(sent, merged.len());
            thread::sleep(SILENCE);
            let replies = wire.replies(server).expect("a capture without gaps");
            assert_eq!(replies.datagrams > 1, brings, "{calls:?}: {replies:?}");
            assert!(brings || replies == Replies::default(), "{calls:?}: {replies:?}");
            let headers = if server.is_ipv4() { 28 } else { 48 };
            counted.packets += packets;
            counted.bytes += merged.len() as u64 + packets * headers;
            let totals = portguard.stats_of(counted.packets).totals;
            let seen = if brings { totals.allowed } else { totals.by_reason.of("call_not_allowed") };
            assert_eq!(seen, counted, "{place:?}, {calls:?}");
        }
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn lookups_and_connections_are_served_while_the_list_changes_what_it_permits() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    portguard.ok(&["attach", IFACE, "--allowlist", &list(&testbed, UdpCalls::All)]);
    let done = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut asked = 0_u64;
            while !done.load(Ordering::Relaxed) {
                for server in SERVER {
                    assert!(is_answered(testbed.host(Role::Allowed), port_111(server), &null()), "{server}");
                    let ask = || anyhow::Ok(rpc::answers_over_tcp(port_111(server), PATIENCE));
                    assert!(testbed.host(Role::Allowed).run(ask).expect("a connection"), "{server}");
                    asked += 1;
                }
            }
            asked
        });
        let mut generation = 1;
        for _ in 0..10 {
            for calls in [UdpCalls::Lookups, UdpCalls::All] {
                list(&testbed, calls);
                portguard.ok(&["reload", IFACE]);
                generation += 1;
                let status = portguard.status();
                assert_eq!((status.generation, &*status.allowlist.udp), (generation, calls.key()));
            }
        }
        done.store(true, Ordering::Relaxed);
        client.join().expect("every call was answered")
    });
    assert!(asked > 0);
    let stats = portguard.stats();
    assert_eq!((stats.totals.dropped.packets, stats.sources.len()), (0, 0), "{stats:?}");
    assert!(stats.totals.allowed.packets >= 2 * asked, "counters go on: {stats:?}");
    testbed.machine.assert_tidy(1);
}

/// Whether a datagram of a host is answered.
fn is_answered(host: &Host, server: SocketAddr, message: &[u8]) -> bool {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = host.run(|| UdpSocket::bind((any, 0))).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    socket.send_to(message, server).expect("sending");
    socket.recv_from(&mut [0; 1500]).is_ok()
}

#[test]
fn explain_says_of_each_call_what_the_program_does_with_it() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let source = ALLOWED[0].to_string();
    for calls in UdpCalls::ALL {
        portguard.ok(&["attach", IFACE, "--allowlist", &list(&testbed, calls)]);
        for call in Procedure::ALL {
            let output = portguard.run(&["explain", &source, "--call", call.key(), "--json"]);
            let document: Document = serde_json::from_str(&output.stdout).expect("a document");
            let verdicts = document.verdicts;
            let over = |protocol: &str| {
                verdicts.iter().find(|it| it.protocols.iter().any(|it| it == protocol)).expect("a verdict")
            };
            assert_eq!(over("tcp").verdict, Decision::Allowed.key(), "{calls:?}, {call:?}");
            let (decision, reason) = match calls.permits(call) {
                true => (Decision::Allowed, None),
                false => (Decision::Dropped, Some("call_not_allowed")),
            };
            let udp = over("udp");
            let found = (&*udp.verdict, udp.reason.as_deref(), udp.call.as_deref(), &*udp.allowlist.udp);
            assert_eq!(found, (decision.key(), reason, Some(call.key()), calls.key()));
            assert!(udp.entry.is_some() && udp.nearest.is_none(), "{udp:?}");
        }
        let stranger = portguard.run(&["explain", "203.0.113.9", "--call", "dump"]);
        assert!(stranger.code == 1 && stranger.stdout.contains("no entry of"), "{stranger:?}");
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn a_list_that_permits_no_calls_over_udp_leaves_tcp_alone() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    portguard.ok(&["attach", IFACE, "--allowlist", &list(&testbed, UdpCalls::None)]);
    let client = testbed.host(Role::Allowed);
    for server in SERVER {
        run(client.command("rpcinfo").args(["-p", &server.to_string()])).expect("over TCP");
        let socket = client.run(|| UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }));
        let socket = socket.expect("a socket");
        socket.set_read_timeout(Some(SILENCE)).expect("SO_RCVTIMEO");
        socket.send_to(&null(), port_111(server)).expect("sending");
        assert!(socket.recv_from(&mut [0; 1500]).is_err(), "{server}: not even NULL");
    }
    let stats = portguard.stats();
    assert_eq!(stats.totals.by_reason.of("call_not_allowed").packets, SERVER.len() as u64, "{stats:?}");
}
