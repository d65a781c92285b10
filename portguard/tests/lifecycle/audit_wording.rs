//! The messages while a guard is in audit mode, and the texts about counters of both modes.

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, rpc};

use crate::support::{DENIED, IFACE, OTHER, PORTGUARD, Role, SERVER, Service, Testbed, flow};

/// What may be said of dropping in audit mode: that nothing is dropped, or what would be.
const TRUE: [&str; 7] = [
    "nothing is dropped",
    "drops nothing",
    "would be dropped",
    "would drop",
    "would_drop",
    "would have been dropped",
    "  dropped              0      0",
];

fn send(testbed: &Testbed, source: std::net::IpAddr, times: u64) {
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    for _ in 0..times {
        forger.send(&Packet::udp(flow(source, SERVER[0], 111), &rpc::dump_call())).expect("sending");
    }
}

#[test]
fn nothing_that_is_said_in_audit_mode_speaks_of_dropping() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let empty = testbed.lists.write("empty.yaml", [] as [&str; 0]);
    let list = testbed.list();
    let mut said = Vec::new();
    let mut run = |arguments: &[&str]| {
        let output = portguard.run(arguments);
        said.push((format!("{arguments:?}"), output.stdout + &output.stderr));
    };
    run(&["attach", IFACE, "--audit", "--allowlist", &empty]);
    send(&testbed, DENIED[0], 2);
    portguard.stats_of(2);
    for arguments in [
        &["status"][..],
        &["stats"],
        &["stats", "--csv"],
        &["report"],
        &["report", "--csv"],
        &["explain", "203.0.113.9"],
        &["reload"],
        &["reload", "--dry-run", "--allowlist", &list],
        &["check", &empty],
        &["attach", IFACE, "--allowlist", &list],
        &["attach", IFACE, "--allowlist", &empty],
        &["attach", IFACE, "--allowlist", &empty, "--allow-empty"],
        &["doctor"],
    ] {
        run(arguments);
    }
    let mut service = Service::start(
        portguard,
        &[IFACE, "--audit", "--allowlist", &empty, "--log-drops", "--log-rate", "1"],
    );
    send(&testbed, DENIED[0], 200);
    service.until_said("would drop");
    said.push(("its status".to_owned(), service.until("STATUS=")));
    service.until_said("left out of the log");
    said.push(("run --audit".to_owned(), service.said()));
    for (command, text) in said {
        // Of `doctor`, what is about the guard.
        let text: Vec<&str> =
            text.lines().filter(|line| command != "[\"doctor\"]" || line.contains(IFACE)).collect();
        let rest = TRUE.iter().fold(text.join("\n"), |text, phrase| text.replace(phrase, ""));
        assert!(!rest.contains("drop"), "{command}: {}", text.join("\n"));
    }
}

#[test]
fn the_rows_of_a_guard_that_was_in_both_modes_say_what_they_add_up_to() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &testbed.list()]);
    let lines = || {
        let text = portguard.ok(&["stats"]);
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let counted_as = |arguments: &[&str]| -> Vec<String> {
        let text = portguard.ok(arguments);
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let headers = table.headers().expect("a header").clone();
        let column = headers.iter().position(|name| name == "counted_as").expect("the column");
        let behind: Vec<&str> = headers.iter().skip(column + 1).collect();
        assert!(behind.is_empty() || behind == ["listed"], "only what came later is behind it: {headers:?}");
        table.records().map(|row| row.expect("a row")[column].to_owned()).collect()
    };
    send(&testbed, DENIED[0], 3);
    send(&testbed, OTHER[0], 1);
    let length = Packet::udp(flow(DENIED[0], SERVER[0], 111), &rpc::dump_call()).bytes().len() as u64;
    portguard.stats_of(4);
    let sum = |packets: u64, meaning: &str| {
        format!("in total {packets} packets, {} bytes: \"not allowed\" above, {meaning}", packets * length)
    };
    assert!(lines().contains(&sum(4, "all let through in audit mode")), "{:?}", lines());
    assert_eq!(counted_as(&["stats", "--csv"]), ["would_drop", "would_drop"]);

    portguard.ok(&["attach", IFACE, "--enforce"]);
    send(&testbed, DENIED[0], 2);
    let stats = portguard.stats_of(6);
    assert_eq!((stats.totals.dropped.packets, stats.totals.would_drop.packets), (2, 4));
    let lines = lines();
    for expected in [
        format!("dropped 2 {}", 2 * length),
        format!("would drop 4 {}", 4 * length),
        format!("together 6 {}", 6 * length),
        format!("not allowed 6 {}", 6 * length),
        sum(6, "a part dropped, a part let through in audit mode"),
    ] {
        assert!(lines.contains(&expected), "{expected}: {lines:#?}");
    }
    for arguments in [&["stats", "--csv"], &["report", "--csv"]] {
        assert_eq!(counted_as(arguments), ["dropped_or_would_drop", "dropped_or_would_drop"]);
    }
    let report = portguard.ok(&["report"]);
    assert!(report.contains("let 4 packets through"), "{report}");
    assert!(report.contains("The tables count both together: they add up to 6 packets."), "{report}");

    // Counted anew, there is one mode.
    portguard.ok(&["stats", "--reset"]);
    send(&testbed, DENIED[0], 1);
    portguard.stats_of(1);
    assert_eq!(counted_as(&["stats", "--csv"]), ["dropped"]);
    let text = portguard.ok(&["stats"]);
    assert!(text.contains("in total 1 packet, ") && text.contains("all dropped"), "{text}");
    assert!(!text.contains("together") && !text.contains("audit"), "{text}");
}
