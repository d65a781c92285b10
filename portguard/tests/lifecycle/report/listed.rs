//! Packets in the name of clients: the report tells them apart from those of strangers.

use portguard_testkit::documents::report::{Range, report, report_of};
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, rpc};

use super::Play;
use crate::support::{
    ALLOWED, DENIED, IFACE, OTHER, PATIENCE, PORTGUARD, Role, SERVER, Testbed, flow, port_111,
};

/// DUMPs in the name of the victim, over IPv4 and IPv6.
const DUMPS: [usize; 2] = [3, 2];

#[test]
fn what_came_in_the_name_of_clients_is_what_they_would_have_received() {
    let testbed = Testbed::new(PORTGUARD);
    let play = Play::new(&testbed);
    let portguard = testbed.portguard();
    let [v4, v6] = OTHER;
    let list = testbed.lists.write_text(
        "conditions.yaml",
        &format!(
            "allow:\n  - {}\n  - {}\n  - prefix: {v4}\n    udp: lookups\n  - prefix: {v6}\n    until: 2026-01-01T00:00:00Z\n",
            ALLOWED[0], ALLOWED[1]
        ),
    );
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let attacks = DUMPS.map(|dumps| vec![rpc::dump_call().to_vec(); dumps]);
    for (family, attack) in attacks.iter().enumerate() {
        assert_eq!(play.attack(family, attack), 0, "nothing gets through");
    }
    // A stranger, whom the list does not know.
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    forger.send(&Packet::udp(flow(DENIED[0], SERVER[0], 111), &rpc::dump_call())).expect("sending");
    let last = testbed.host(Role::Allowed).run(|| rpc::dump(port_111(SERVER[0]), PATIENCE));
    assert!(last.expect("an answer").is_some(), "the allowed host is answered");

    let interface = report_of(portguard);
    let totals = &interface.totals;
    let of_reasons = [totals.not_allowed, totals.call_not_allowed, totals.wrong_interface, totals.expired];
    assert_eq!(of_reasons.map(|count| count.packets), [1, 3, 0, 2], "{interface:?}");
    assert_eq!(totals.rate_exceeded.packets, 0);
    assert_eq!((interface.listed.sources, interface.listed.packets), (2, 5), "{interface:?}");
    assert!(OTHER.into_iter().all(|client| interface.source(client).listed), "{interface:?}");
    assert!(!interface.source(DENIED[0]).listed, "{interface:?}");
    let [cut] = report(portguard, &["--top", "1"]).interfaces.try_into().unwrap();
    assert_eq!(cut.listed, interface.listed, "shown or not");
    let csv = portguard.ok(&["report", "--csv"]);
    let listed = |client: &str| csv.lines().find(|line| line.contains(client)).unwrap().ends_with(",true");
    assert!(listed(&v4.to_string()) && listed(&v6.to_string()) && !listed(&DENIED[0].to_string()), "{csv}");

    let text = portguard.ok(&["report"]);
    let Range { at_least, at_most } = interface.listed.answer_bytes.expect("rpcbind answers");
    for expected in [
        "5 of the packets came in the name of 2 sources that are on the list now.",
        &format!("at least {at_least} and at most {at_most} bytes"),
        "these clients of this host would have received them.",
        "An entry of the list covered the sources of 5 packets when they arrived,",
        "and did not permit them: 3 call not allowed, 2 expired.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    // The list of now counts, and not the one of that time.
    testbed.lists.write("conditions.yaml", ALLOWED);
    portguard.ok(&["reload", IFACE]);
    let later = report_of(portguard);
    assert_eq!((later.listed.sources, later.totals.expired.packets), (0, 2), "{later:?}");

    portguard.ok(&["detach", IFACE]);
    let hit: u64 = attacks.iter().enumerate().map(|(family, attack)| play.attack(family, attack)).sum();
    assert_eq!(at_most, hit, "DUMP of version 3 is the largest of its kind");
    assert!(at_least <= hit);
}

#[test]
fn a_report_on_strangers_alone_does_not_name_the_list() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    forger.send(&Packet::udp(flow(OTHER[0], SERVER[0], 111), &rpc::dump_call())).expect("sending");
    portguard.stats_of(1);
    let interface = report_of(portguard);
    assert_eq!((interface.listed.sources, interface.listed.packets), (0, 0), "{interface:?}");
    let text = portguard.ok(&["report"]);
    assert!(text.contains("that may not use this port") && !text.contains("the list"), "{text}");
}
