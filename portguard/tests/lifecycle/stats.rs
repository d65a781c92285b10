//! What was counted, in every form it is shown in.

use std::thread;
use std::time::Duration;

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Count, Forger};

use crate::support::{
    ALLOWED, DENIED, IFACE, OTHER, PORTGUARD, Role, SERVER, Stats, Testbed, Traffic, flow, sum,
};

/// Sends from three sources: many small packets, a few large ones, and, last, one SYN.
fn three_sources(testbed: &Testbed) -> [Count; 3] {
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    let send = |packet: &Packet, times: u64| {
        for _ in 0..times {
            forger.send(packet).expect("sending");
        }
        Count { packets: times, bytes: times * packet.bytes().len() as u64 }
    };
    let many = send(&Packet::udp(flow(DENIED[0], SERVER[0], 111), &[0; 4]), 20);
    let large = send(&Packet::udp(flow(OTHER[1], SERVER[1], 111), &[0; 1400]), 10);
    // A stamp is 64 jiffies wide, and the jiffy at least a millisecond: later ones are later stamps.
    thread::sleep(Duration::from_millis(1300));
    let last = send(&Packet::tcp_syn(flow(OTHER[0], SERVER[0], 111)), 1);
    let allowed = send(&Packet::udp(flow(ALLOWED[0], SERVER[0], 111), &[0; 8]), 3);
    assert_eq!(testbed.portguard().stats_of(34).totals.allowed, allowed);
    [many, large, last]
}

#[test]
fn sources_are_sorted_and_cut_off_as_asked() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let [many, large, last] = three_sources(&testbed);
    let rows = [(DENIED[0], many), (OTHER[1], large), (OTHER[0], last)];

    let shown = |arguments: &[&str]| -> Stats {
        let [stats] = portguard.all_stats(arguments).try_into().expect("one guard");
        stats
    };
    for (sort, order) in [("packets", [0, 1, 2]), ("bytes", [1, 0, 2]), ("recent", [2, 0, 1])] {
        for top in 0..=4 {
            let stats = shown(&["--sort", sort, "--top", &top.to_string()]);
            let sorted: Vec<_> = order.iter().map(|&row| rows[row]).collect();
            let (first, rest) = sorted.split_at(top.min(3));
            let sources: Vec<_> =
                stats.sources.iter().map(|source| (source.source, source.count())).collect();
            if sort == "recent" {
                // Two of them came at the same time, as far as stamps tell.
                assert_eq!(sources.first(), first.first(), "top {top}");
            } else {
                assert_eq!(sources, first, "by {sort}, top {top}");
                let Count { packets, bytes } = sum(rest.iter().map(|(_, count)| *count));
                assert_eq!((stats.not_shown.packets, stats.not_shown.bytes), (packets, bytes));
            }
            assert_eq!((sources.len(), stats.not_shown.sources as usize), (first.len(), rest.len()));
            assert_eq!(stats.totals.dropped, sum([many, large, last]), "the totals are those of all");
        }
    }

    let stats = shown(&[]);
    let protocols: Vec<_> =
        stats.sources.iter().map(|source| (source.udp_packets, source.tcp_packets)).collect();
    assert_eq!(protocols, [(20, 0), (10, 0), (0, 1)]);
    assert!(stats.sources[0].last_seen < stats.sources[2].first_seen, "{stats:?}");
    for reason in ["truncated", "malformed"].map(|reason| stats.totals.by_reason.of(reason)) {
        assert_eq!(reason, Count::default());
    }
}

#[test]
fn text_and_csv_say_what_json_says() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let [many, large, last] = three_sources(&testbed);
    let stats = portguard.stats();

    let csv = portguard.ok(&["stats", "--csv"]);
    let mut lines = csv.lines();
    let header = "interface,source,packets,bytes,udp_packets,tcp_packets,first_seen,last_seen,\
                  udp_null,udp_getaddr,udp_dump,udp_callit,udp_getstat,udp_set,udp_other_rpc,udp_not_rpc,\
                  udp_getaddrlist,udp_gettime,udp_uaddr2taddr,udp_taddr2uaddr,udp_getversaddr,udp_other_program,\
                  tcp_null,tcp_getaddr,tcp_dump,tcp_callit,tcp_getstat,tcp_set,tcp_other_rpc,tcp_not_rpc,\
                  tcp_getaddrlist,tcp_gettime,tcp_uaddr2taddr,tcp_taddr2uaddr,tcp_getversaddr,tcp_other_program,\
                  counted_as";
    assert_eq!(lines.next(), Some(header));
    let rows: Vec<String> = stats
        .sources
        .iter()
        .map(|row| {
            format!(
                "{IFACE},{},{},{},{},{},{},{},{},dropped",
                row.source,
                row.packets,
                row.bytes,
                row.udp_packets,
                row.tcp_packets,
                row.first_seen,
                row.last_seen,
                row.calls.cells().join(",")
            )
        })
        .collect();
    assert_eq!(lines.collect::<Vec<_>>(), rows);
    let top = portguard.ok(&["stats", "--csv", "--top", "1", "--sort", "bytes"]);
    assert_eq!(top.lines().nth(1), Some(rows[1].as_str()));
    assert_eq!(top.lines().count(), 2);

    let text = portguard.ok(&["stats", IFACE]);
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |expected: &[&str]| words.iter().any(|line| line.starts_with(expected));
    assert!(text.starts_with("eth0: enforcing, native mode, counting since 20"), "{text}");
    let dropped = sum([many, large, last]);
    assert!(has(&["allowed", "3", "108"]), "{text}");
    assert!(has(&["dropped", &dropped.packets.to_string(), &dropped.bytes.to_string()]), "{text}");
    assert!(has(&["not", "allowed", &dropped.packets.to_string()]), "{text}");
    for row in &stats.sources {
        let (source, packets, bytes) =
            (row.source.to_string(), row.packets.to_string(), row.bytes.to_string());
        assert!(has(&[&source, &packets, &bytes]), "{text}");
    }
    let text = portguard.ok(&["stats", "--top", "1"]);
    assert!(text.contains("and 2 more sources with 11 packets"), "{text}");
}

#[test]
fn an_interface_that_is_named_twice_is_reset_and_shown_once() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    testbed.server.namespace().ip(&format!("link property add dev {IFACE} altname other0")).expect("a name");
    let portguard = testbed.portguard();
    for names in [[IFACE, IFACE], [IFACE, "other0"]] {
        let [counted] =
            portguard.all_stats(&[&names[..], &["--reset"]].concat()).try_into().expect("one guard");
        assert_eq!(counted.interface, IFACE);
        assert_eq!(portguard.ok(&[&["reload"], &names[..]].concat()).lines().count(), 1);
        assert_eq!(portguard.all_status().len(), 1, "the guard is whole");
    }
}

#[test]
fn what_successive_resets_print_adds_up_to_what_was_sent() {
    const RESETS: usize = 12;
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let (exchanged, printed) = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        let printed: Vec<Stats> = (0..RESETS).flat_map(|_| portguard.all_stats(&["--reset"])).collect();
        (traffic.end(), printed)
    });
    exchanged.assert_sealed();

    let earlier: u64 = printed.iter().map(Stats::packets).sum();
    assert!(printed.iter().filter(|stats| stats.packets() > 0).count() > 1, "several held something");
    let rest = portguard.stats_of(exchanged.sent().packets - earlier);
    let all: Vec<&Stats> = printed.iter().chain([&rest]).collect();
    assert_eq!(sum(all.iter().map(|stats| stats.totals.allowed)), exchanged.sent_allowed());
    assert_eq!(sum(all.iter().map(|stats| stats.totals.dropped)), exchanged.sent_denied());
    for (source, sent) in exchanged.denied() {
        let counts = all.iter().filter_map(|stats| stats.by_source().get(&source).copied());
        assert_eq!(sum(counts), sent, "{source}");
    }
    assert!(all.windows(2).all(|pair| pair[0].since <= pair[1].since), "each counts from a later time on");
    assert_eq!(portguard.status().generation, 1, "the list is the same one");
    testbed.machine.assert_tidy(1);
}
