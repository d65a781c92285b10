//! `portguard report`: what it says of an attack is what the attack does without the guard.

mod calls;
mod listed;
mod procedures;

use std::fs;
use std::net::IpAddr;

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Capture, Forger, Host, RpcServices, rpc};

use self::calls::Call;
use crate::support::{IFACE, OTHER, PATIENCE, PORTGUARD, Role, SERVER, SingleHost, Testbed, flow, port_111};
use portguard_testkit::documents::report::{Range, report, report_of};

/// Few enough for rpcbind's receive buffer, and for the ring of a veth.
const REQUESTS: u64 = 50;

/// A testbed with a real rpcbind and a victim, at [`OTHER`].
struct Play<'a> {
    testbed: &'a Testbed,
    victim: Host,
    _rpcbind: RpcServices<'a>,
}

impl<'a> Play<'a> {
    fn new(testbed: &'a Testbed) -> Self {
        let victim = testbed.switch.host("victim", &OTHER).expect("a host");
        Self { testbed, victim, _rpcbind: RpcServices::start(testbed.server.namespace()).expect("rpcbind") }
    }

    /// Sends requests in the victim's name, over a family. Returns the UDP payload that arrives at the victim.
    fn attack(&self, family: usize, messages: &[Vec<u8>]) -> u64 {
        let mut at_victim = Capture::start(self.victim.namespace(), Host::INTERFACE).expect("a witness");
        let forger =
            Forger::new(self.testbed.host(Role::Denied), &self.testbed.server).expect("a packet socket");
        for message in messages {
            forger.send(&Packet::udp(flow(OTHER[family], SERVER[family], 111), message)).expect("sending");
        }
        // rpcbind serves a socket in the order of arrival: with this answer, it has dealt with all of the above.
        let last = self.testbed.host(Role::Allowed).run(|| rpc::dump(port_111(SERVER[family]), PATIENCE));
        assert!(last.expect("an answer").is_some(), "the allowed host is answered");
        at_victim.replies(SERVER[family]).expect("a witness without gaps").payload
    }
}

#[test]
fn a_reflection_attack_brings_the_victim_what_the_report_says_was_prevented() {
    let testbed = Testbed::new(PORTGUARD);
    let play = Play::new(&testbed);
    let portguard = testbed.portguard();
    testbed.attach();
    let attack = vec![rpc::dump_call().to_vec(); REQUESTS as usize];
    for family in [0, 1] {
        assert_eq!(play.attack(family, &attack), 0, "nothing gets through");
    }
    portguard.stats_of(2 * REQUESTS);
    let document = report(portguard, &[]);
    let [interface] = &document.interfaces[..] else { panic!("{document:?}") };

    portguard.ok(&["detach", IFACE]);
    let mut sum = 0;
    for (family, replies) in [&document.rpcbind.ipv4, &document.rpcbind.ipv6].into_iter().enumerate() {
        let hit = play.attack(family, &attack);
        sum += hit;
        let source = interface.source(OTHER[family]);
        assert_eq!((source.udp_packets, source.calls.udp.of("dump")), (REQUESTS, REQUESTS));
        let prevented = source.answer_bytes.expect("rpcbind answers");
        assert!(prevented.contains(hit), "{hit} bytes at the victim: {source:?}");
        let measured = replies.measured.as_ref().expect("rpcbind answers");
        let dump = measured.iter().find(|reply| reply.call == "DUMP" && reply.version == 3).unwrap();
        assert_eq!((dump.request_bytes, dump.reply_bytes * REQUESTS), (40, hit), "{dump:?}");
        assert_eq!(prevented.at_most, hit, "DUMP of version 3 is the largest of its kind");
    }
    let total = interface.totals.answer_bytes.expect("rpcbind answers");
    assert_eq!(total.at_most, sum);
    assert_eq!(interface.procedure("dump").answer_bytes, Some(total));
    assert_eq!((interface.totals.dropped.packets, interface.totals.would_drop.packets), (2 * REQUESTS, 0));
}

#[test]
fn the_answers_to_every_call_are_within_what_is_stated() {
    let testbed = Testbed::new(PORTGUARD);
    let play = Play::new(&testbed);
    let portguard = testbed.portguard();
    testbed.attach();
    let mut sent = 0;
    for (family, server) in SERVER.into_iter().enumerate() {
        for Call { message, .. } in calls::all(server.is_ipv6()) {
            assert_eq!(play.attack(family, &[message]), 0);
            sent += 1;
        }
    }
    portguard.stats_of(sent);
    let document = report(portguard, &[]);
    portguard.ok(&["detach", IFACE]);

    let replies = [&document.rpcbind.ipv4, &document.rpcbind.ipv6];
    let calls: Vec<(usize, Call)> = [0, 1]
        .into_iter()
        .flat_map(|family| calls::all(SERVER[family].is_ipv6()).into_iter().map(move |call| (family, call)))
        .collect();
    for (family, Call { procedure, message }) in calls {
        let measured = replies[family].measured.iter().flatten();
        let measured = measured.filter(|reply| reply.procedure == procedure).map(|reply| reply.reply_bytes);
        let stated = replies[family].stated.iter().flatten().filter(|stated| stated.procedure == procedure);
        let range = measured
            .map(|bytes| Range { at_least: bytes, at_most: bytes })
            .chain(stated.map(|stated| stated.reply_bytes))
            .reduce(|a, b| Range { at_least: a.at_least.min(b.at_least), at_most: a.at_most.max(b.at_most) })
            .unwrap_or_else(|| panic!("{procedure} has no size"));
        let answer = play.attack(family, std::slice::from_ref(&message));
        // Each call for an address, the report's own ones included, makes the answer to this one larger.
        let range = if procedure == "getstat" { Range { at_most: u64::MAX, ..range } } else { range };
        assert!(range.contains(answer), "{procedure}: {answer} bytes, {range:?}: {message:02x?}");
    }
}

#[test]
fn what_was_let_through_in_audit_mode_was_sent() {
    let testbed = Testbed::new(PORTGUARD);
    let play = Play::new(&testbed);
    let portguard = testbed.portguard();
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &testbed.list()]);
    let hit = play.attack(0, &vec![rpc::dump_call().to_vec(); REQUESTS as usize]);
    portguard.stats_of(REQUESTS + 1);
    let interface = report_of(portguard);
    assert!(!interface.enforcing);
    assert_eq!((interface.totals.dropped.packets, interface.totals.would_drop.packets), (0, REQUESTS));
    assert_eq!(interface.source(OTHER[0]).answer_bytes.expect("rpcbind answers").at_most, hit);
    let text = portguard.ok(&["report"]);
    assert!(text.contains("in audit mode, and let all of them through"), "{text}");
    assert!(text.contains("not prevented but sent"), "{text}");

    // From now on it enforces, and the counters go on.
    portguard.ok(&["attach", IFACE, "--enforce"]);
    assert_eq!(play.attack(0, &[rpc::dump_call().to_vec()]), 0);
    portguard.stats_of(REQUESTS + 3);
    let text = portguard.ok(&["report"]);
    assert!(text.contains(&format!("let {REQUESTS} packets through")), "{text}");
    assert!(text.contains("some prevented and some sent"), "{text}");
}

#[test]
fn without_an_rpcbind_no_sizes_are_stated() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    let sources = |family: usize| -> IpAddr { OTHER[family] };
    for family in [0, 1] {
        let packet = Packet::udp(flow(sources(family), SERVER[family], 111), &rpc::dump_call());
        forger.send(&packet).expect("sending");
    }
    portguard.stats_of(2);
    let document = report(portguard, &[]);
    for (replies, server) in
        [(&document.rpcbind.ipv4, "127.0.0.1:111"), (&document.rpcbind.ipv6, "[::1]:111")]
    {
        assert_eq!(replies.server, server);
        assert_eq!(replies.problem.as_deref(), Some("no process listens there"));
        assert!(replies.measured.is_none() && replies.stated.is_none(), "{replies:?}");
    }
    let [interface] = &document.interfaces[..] else { panic!("{document:?}") };
    assert_eq!(interface.totals.answer_bytes, None);
    assert_eq!(interface.sources.len(), 2);
    assert!(interface.sources.iter().all(|source| source.answer_bytes.is_none()), "{interface:?}");
    let text = portguard.ok(&["report"]);
    assert!(text.contains("No rpcbind replies on 127.0.0.1:111 or [::1]:111 now"), "{text}");
    let csv = portguard.run(&["report", "--csv"]);
    assert_eq!(csv.code, 0);
    assert!(csv.stdout.lines().skip(1).all(|line| line.ends_with(",,,dropped,false")), "{csv:?}");
    assert!(csv.stderr.contains("no rpcbind of this host replies"), "{csv:?}");
}

#[test]
fn text_csv_and_json_say_the_same_and_are_cut_off_as_asked() {
    let testbed = Testbed::new(PORTGUARD);
    let play = Play::new(&testbed);
    testbed.attach();
    let portguard = testbed.portguard();
    let attack = vec![rpc::dump_call().to_vec(); 3];
    play.attack(0, &attack);
    play.attack(1, &attack[..2]);
    portguard.stats_of(5 + 2);
    let document = report(portguard, &[IFACE]);
    let [interface] = &document.interfaces[..] else { panic!("{document:?}") };
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(document.host, name.trim());
    assert_eq!((&*interface.interface, &*interface.mode, interface.enforcing), (IFACE, "native", true));
    // One is to the second, the other to the microsecond.
    assert!(interface.since[..19] <= document.taken_at[..19], "{document:?}");
    assert!(document.taken_at.ends_with('Z'), "{document:?}");

    let csv = portguard.ok(&["report", "--csv"]);
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    assert_eq!(rows.len(), interface.sources.len());
    for (row, source) in rows.iter().zip(&interface.sources) {
        let cell = |name: &str| row[header.iter().position(|column| *column == name).unwrap()];
        let Range { at_least, at_most } = source.answer_bytes.unwrap();
        assert_eq!(cell("source").parse(), Ok(source.source));
        assert_eq!((cell("host"), cell("interface"), cell("since")), (name.trim(), IFACE, &*interface.since));
        assert_eq!((cell("first_seen"), cell("last_seen")), (&*source.first_seen, &*source.last_seen));
        assert_eq!(cell("udp_dump"), source.calls.udp.of("dump").to_string());
        assert_eq!(cell("answer_bytes_at_least"), at_least.to_string());
        assert_eq!(cell("answer_bytes_at_most"), at_most.to_string());
    }
    let text = portguard.ok(&["report"]);
    for expected in
        [name.trim(), &OTHER[0].to_string(), "victims", "dropped all of them before rpcbind received them"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    let [cut] = report(portguard, &["--top", "1"]).interfaces.try_into().unwrap();
    assert_eq!((cut.sources.len(), cut.not_shown.sources), (1, 1));
    assert_eq!(cut.totals.answer_bytes, interface.totals.answer_bytes, "the totals are those of all");
    assert_eq!(portguard.ok(&["report", "--csv", "--top", "1"]).lines().count(), 2);
}

#[test]
fn errors_name_what_is_wrong() {
    let guarded = SingleHost::new(PORTGUARD);
    let portguard = guarded.portguard();
    let output = portguard.run(&["report"]);
    assert_eq!((output.code, &*output.stdout), (0, ""), "{output:?}");
    assert!(output.stderr.contains("no interface of this network namespace is guarded"), "{output:?}");
    assert_eq!(report(portguard, &[]).interfaces.len(), 0);
    let told = portguard.fails(4, &["report", "nosuch0"]);
    assert!(told.contains("nosuch0"), "{told}");
    let told = portguard.fails(4, &["report", IFACE]);
    assert!(told.contains(IFACE), "{told}");
    let told = portguard.fails(2, &["report", "--json", "--csv"]);
    assert!(told.contains("cannot be used with"), "{told}");
}
