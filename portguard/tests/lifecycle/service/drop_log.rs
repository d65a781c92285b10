//! `run --log-drops`: what is logged, how much of it at most, and that nothing goes missing without a word.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Host, PacketSocket, rpc};
use serde::Deserialize;

use crate::flood::flood;
use crate::support::{DENIED, IFACE, PORTGUARD, Role, SERVER, SOURCE_PORT, Service, Testbed, flow};

/// An entry as JSON.
#[derive(Debug, Deserialize)]
struct Entry {
    level: String,
    message: String,
    interface: String,
    source: Option<IpAddr>,
    port: Option<u16>,
    protocol: Option<String>,
    procedure: Option<String>,
    bytes: Option<u64>,
    at: Option<String>,
    packets: Option<u64>,
}

fn entries(service: &Service) -> Vec<Entry> {
    let lines = service.said();
    let lines = lines.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The drops that were logged, and the packets that are said to have been left out.
fn logged_and_left_out(service: &Service) -> (u64, u64) {
    entries(service).iter().fold((0, 0), |(logged, left_out), entry| match entry.message.as_str() {
        "dropped" => (logged + 1, left_out),
        "packets left out of the log" => (logged, left_out + entry.packets.expect("a number")),
        other => panic!("{other:?}"),
    })
}

fn ask(testbed: &Testbed, family: usize) -> u64 {
    let denied = testbed.host(Role::Denied).namespace();
    let from = PacketSocket::open(denied, Host::INTERFACE).expect("a packet socket");
    let server =
        PacketSocket::open(testbed.server.namespace(), Host::INTERFACE).expect("a packet socket").mac();
    let packet = Packet::udp(flow(DENIED[family], SERVER[family], rpc::PORT), &rpc::dump_call());
    from.send(&packet.frame(from.mac(), server, &[])).expect("sending");
    packet.bytes().len() as u64
}

#[test]
fn a_drop_is_logged_once_whatever_names_its_interface_was_given() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.server.namespace().ip(&format!("link property add dev {IFACE} altname other0")).expect("a name");
    let list = testbed.list();
    let arguments = [IFACE, "other0", "--allowlist", &list, "--log-drops", "--log-format", "json"];
    let service = Service::start(testbed.portguard(), &arguments);
    for _ in 0..5 {
        ask(&testbed, 0);
    }
    service.wait_until("all entries", || entries(&service).len() >= 5);
    // A second reader looks once a second.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(logged_and_left_out(&service), (5, 0));
}

#[test]
fn what_was_left_out_is_told_once_when_an_interface_is_renamed_and_named_back() {
    let testbed = Testbed::new(PORTGUARD);
    let list = testbed.list();
    let mut arguments = vec![IFACE, "--allowlist", &list, "--log-drops", "--log-format", "json"];
    arguments.extend(["--log-rate", "1"]);
    let service = Service::start(testbed.portguard(), &arguments);
    let (sent, _) = flood(&testbed, 0, 2_000);
    service.wait_until("it is told", || {
        let (logged, left_out) = logged_and_left_out(&service);
        logged + left_out == sent.packets
    });
    for (from, to) in [(IFACE, "away0"), ("away0", IFACE)] {
        testbed.server.namespace().ip(&format!("link set {from} name {to}")).expect("renaming");
        // It looks once a second.
        thread::sleep(Duration::from_millis(2500));
    }
    let (logged, left_out) = logged_and_left_out(&service);
    assert_eq!(logged + left_out, sent.packets);
}

#[test]
fn a_drop_is_logged_with_who_and_what() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let arguments = [IFACE, "--allowlist", &list, "--log-drops", "--log-format", "json"];
    let service = Service::start(portguard, &arguments);
    for (number, family) in [0, 1].into_iter().enumerate() {
        let bytes = ask(&testbed, family);
        service.wait_until("an entry", || entries(&service).len() > number);
        let Entry { level, message, interface, source, port, protocol, procedure, bytes: told, at, packets } =
            entries(&service).pop().expect("an entry");
        assert_eq!((level.as_str(), message.as_str(), interface.as_str()), ("INFO", "dropped", IFACE));
        assert_eq!(source, Some(DENIED[family]));
        assert_eq!(port, Some(SOURCE_PORT));
        assert_eq!((protocol.as_deref(), procedure.as_deref()), (Some("UDP"), Some("DUMP")));
        assert_eq!((told, packets), (Some(bytes), None));
        let (at, since) = (at.expect("a time"), portguard.stats().since);
        assert!(since[..19] <= at[..19], "RFC 3339 in UTC sorts as text: {at}, since {since}");
    }
    drop(service);

    // In audit mode it says what was not done, and as text it is one line for the eye.
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list, "--log-drops", "--audit"]);
    ask(&testbed, 0);
    service.until_said("would drop interface=\"eth0\" source=");
    let said = service.said();
    let line = said.lines().find(|line| line.contains("would drop interface")).expect("it was there");
    let source = DENIED[0];
    assert!(line.contains(&format!("source={source} ")) && line.contains("procedure=\"DUMP\""), "{line}");
    drop(service);

    // Without the switch, there is no log.
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let before = portguard.stats().totals;
    ask(&testbed, 0);
    let stats = portguard.stats_of(before.dropped.packets + before.would_drop.packets + 1);
    assert_eq!(stats.totals.not_logged, before.not_logged);
    assert!(!service.said().contains("dropped interface"), "{}", service.said());
}

#[test]
fn a_million_forged_packets_write_no_more_lines_than_they_may() {
    const RATE: u64 = 10;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let rate = RATE.to_string();
    let arguments = [IFACE, "--allowlist", &list, "--log-drops", "--log-rate", &rate, "--log-format", "json"];
    let service = Service::start(portguard, &arguments);
    let start = Instant::now();
    let (sent, _) = flood(&testbed, 0, 1_000_000);
    let stats = portguard.stats_of(sent.packets);
    let seconds = start.elapsed().as_secs() + 1;
    assert_eq!(stats.totals.dropped, sent);
    // Each packet is in the log, or among those that it says it has left out.
    service.wait_until("all packets", || {
        let (logged, left_out) = logged_and_left_out(&service);
        logged + left_out >= sent.packets
    });
    let (logged, left_out) = logged_and_left_out(&service);
    assert_eq!((logged + left_out, left_out), (sent.packets, stats.totals.not_logged));
    let cpus = aya::util::nr_cpus().expect("the number of CPUs") as u64;
    // Each second of the clock has its own lines; CPUs that look at the same time may take one more each.
    let most = (RATE + cpus - 1) * (seconds + 1);
    assert!(logged > 0 && logged <= most, "{logged} lines in {seconds} seconds");
    println!("{} packets: {logged} lines in {seconds} s, {left_out} left out", sent.packets);
}
