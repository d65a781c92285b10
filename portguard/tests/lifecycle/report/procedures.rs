//! Who asked for what: as counted, as sent, and as seen on the wire.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use portguard_common::ABI_VERSION;
use portguard_common::rpc::Procedure;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, Outcome, PacketSocket, run_within};
use portguard_testkit::oracle::rpc::procedure;

use super::calls;
use crate::support::{
    ABI_8, Calls, DENIED, IFACE, OTHER, PORTGUARD, Role, SERVER, SILENCE, Testbed, attach_abi, flow,
};
use portguard_testkit::documents::report::report_of;

/// How long no frame may come until the wire counts as quiet.
const QUIET: Duration = Duration::from_millis(50);

/// What a frame asks for of port 111, and who it is from. None of these frames has options or is a fragment.
fn request(frame: &[u8]) -> Option<(IpAddr, bool, &'static str)> {
    let (source, protocol, transport): (IpAddr, u8, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let source: [u8; 4] = frame[26..30].try_into().unwrap();
            let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            (Ipv4Addr::from(source).into(), frame[23], &frame[34..end])
        }
        [0x86, 0xdd] => {
            let source: [u8; 16] = frame[22..38].try_into().unwrap();
            (Ipv6Addr::from(source).into(), frame[20], &frame[54..])
        }
        _ => return None,
    };
    let is_tcp = match protocol {
        6 => true,
        17 => false,
        _ => return None,
    };
    (transport[2..4] == 111_u16.to_be_bytes()).then(|| (source, is_tcp, procedure(transport, is_tcp)))
}

/// All that has come by, by its source.
fn seen(wire: &mut PacketSocket) -> BTreeMap<IpAddr, Calls> {
    let mut seen = BTreeMap::<IpAddr, Calls>::new();
    while let Some(frame) = wire.receive(QUIET).expect("a frame") {
        let Some((source, is_tcp, procedure)) = request(&frame) else { continue };
        let calls = seen.entry(source).or_default();
        let by = if is_tcp { &mut calls.tcp_best_effort } else { &mut calls.udp };
        let key = match procedure {
            "NULL" => "null",
            "SET" => "set",
            "GETADDR" => "getaddr",
            "DUMP" => "dump",
            "CALLIT" => "callit",
            "GETSTAT" => "getstat",
            "GETADDRLIST" => "getaddrlist",
            "GETTIME" => "gettime",
            "UADDR2TADDR" => "uaddr2taddr",
            "TADDR2UADDR" => "taddr2uaddr",
            "GETVERSADDR" => "getversaddr",
            "other program" => "other_program",
            "other RPC" => "other_rpc",
            "not RPC" => "not_rpc",
            unknown => panic!("{unknown}"),
        };
        *by.counter(key) += 1;
    }
    wire.ensure_lossless().expect("a witness without gaps");
    seen
}

fn add(sum: &mut Calls, calls: &Calls) {
    for procedure in Procedure::ALL {
        let key = procedure.key();
        *sum.udp.counter(key) += calls.udp.of(key);
        *sum.tcp_best_effort.counter(key) += calls.tcp_best_effort.of(key);
    }
}

/// The sum of what each source has asked for.
fn total(by_source: &BTreeMap<IpAddr, Calls>) -> Calls {
    let mut total = Calls::default();
    by_source.values().for_each(|calls| add(&mut total, calls));
    total
}

fn packets(calls: &Calls) -> u64 {
    calls.udp.counts().chain(calls.tcp_best_effort.counts()).sum()
}

/// Sends each call a number of times, and connections. Adds to `sent` what is to be counted of each source; `key` says as what.
fn send_by_hand(
    testbed: &Testbed,
    sent: &mut BTreeMap<IpAddr, Calls>,
    key: impl Fn(&'static str) -> &'static str,
) {
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    for (source, server) in OTHER.into_iter().zip(SERVER) {
        let counts = sent.entry(source).or_default();
        for (index, call) in (0..).zip(calls::all(server.is_ipv6())) {
            let times = 1 + index % 4;
            for _ in 0..times {
                forger.send(&Packet::udp(flow(source, server, 111), &call.message)).expect("sending");
            }
            *counts.udp.counter(key(call.procedure)) += times;
        }
        for _ in 0..3 {
            forger.send(&Packet::tcp_syn(flow(source, server, 111))).expect("sending");
        }
        *counts.tcp_best_effort.counter("not_rpc") += 3;
    }
}

/// As what a guard of ABI 8 counts a call.
fn in_abi_8(procedure: &'static str) -> &'static str {
    match procedure {
        "getversaddr" => "getaddr",
        "getaddrlist" | "gettime" | "uaddr2taddr" | "taddr2uaddr" | "other_program" => "other_rpc",
        known => known,
    }
}

#[test]
fn what_a_guard_of_abi_8_has_counted_stays_after_an_upgrade() {
    let testbed = Testbed::new(PORTGUARD);
    attach_abi(&testbed, ABI_8, &["--allowlist", &testbed.list()]);
    let portguard = testbed.portguard();
    let mut sent = BTreeMap::new();
    let assert_counted = |sent: &BTreeMap<IpAddr, Calls>, when: &str| {
        let total = total(sent);
        let stats = portguard.stats_of(packets(&total));
        let counted: BTreeMap<IpAddr, Calls> =
            stats.sources.iter().map(|row| (row.source, row.calls)).collect();
        assert_eq!((&counted, stats.totals.calls), (sent, total), "{when}");
    };
    send_by_hand(&testbed, &mut sent, in_abi_8);
    assert_counted(&sent, "before the upgrade");
    portguard.ok(&["attach", IFACE]);
    assert_eq!(portguard.status().program.abi_version, ABI_VERSION);
    assert_counted(&sent, "after the upgrade");
    send_by_hand(&testbed, &mut sent, |procedure| procedure);
    assert_counted(&sent, "with what came later");
}

#[test]
fn procedures_are_counted_to_the_last_call() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let mut wire = PacketSocket::open(testbed.switch.namespace(), "server").expect("a witness");

    // By hand: each call a number of times, and connections.
    let mut sent = BTreeMap::<IpAddr, Calls>::new();
    send_by_hand(&testbed, &mut sent, |procedure| procedure);
    let by_hand = seen(&mut wire);
    assert_eq!(by_hand, sent, "what was sent is on the wire");

    // By a real client, which repeats itself as it likes, until it is stopped.
    let [v4, v6] = SERVER.map(|server| server.to_string());
    thread::scope(|scope| {
        for question in [
            &["-T", "udp", &v4, "100000", "2"][..],
            &["-T", "udp6", &v6, "100000", "4"],
            &["-T", "udp", "-s", &v4],
            &["-T", "tcp", &v4, "100000", "3"],
            &["-T", "tcp6", &v6, "100000", "3"],
            &["-p", &v4],
            &["-m", &v4],
        ] {
            let mut rpcinfo = testbed.host(Role::Denied).command("rpcinfo");
            rpcinfo.args(question);
            scope.spawn(move || {
                let outcome = run_within(SILENCE, &mut rpcinfo).expect("rpcinfo");
                assert!(matches!(outcome, Outcome::TimedOut), "{rpcinfo:?}: {outcome:?}");
            });
        }
    });
    let mut all = seen(&mut wire);
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), DENIED);
    for source in DENIED {
        let Calls { udp, tcp_best_effort } = all[&source];
        assert!(udp.of("getaddr") + udp.of("null") + udp.of("dump") > 0, "{source}: {udp:?}");
        assert!(tcp_best_effort.of("not_rpc") > 0, "{source}: {tcp_best_effort:?}");
    }
    all.extend(sent);

    let total = total(&all);
    let stats = testbed.portguard().stats_of(packets(&total));
    let counted: BTreeMap<IpAddr, Calls> = stats.sources.iter().map(|row| (row.source, row.calls)).collect();
    assert_eq!(counted, all, "stats");
    assert_eq!(stats.totals.calls, total, "stats");

    let report = report_of(testbed.portguard());
    let counted: BTreeMap<IpAddr, Calls> = report.sources.iter().map(|row| (row.source, row.calls)).collect();
    assert_eq!(counted, all, "report");
    assert_eq!(report.totals.calls, total, "report");
    for row in &report.procedures {
        let expected = (total.udp.of(&row.procedure), total.tcp_best_effort.of(&row.procedure));
        assert_eq!((row.udp, row.tcp_best_effort), expected, "{row:?}");
    }
}
