//! What `explain` says of lists with conditions is what becomes of the packets, and which counter moves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use fastrand::Rng;
use portguard_testkit::documents::explain::Verdict;
use portguard_testkit::figures::Figures;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Namespace, rpc};
use portguard_testkit::oracle::lists::{Bits, Kind, address, list, probe};
use portguard_testkit::oracle::seed;

use super::called_by;
use crate::explain::explained;
use crate::support::{Cable, IFACE, Lists, Machine, PORTGUARD, Portguard, SERVER, flow, is_long};

/// Prefixes of each family on a list.
const COUNTS: [usize; 4] = [1, 8, 60, 900];
/// The two address families, by the bits of their addresses.
const WIDTHS: [u32; 2] = [32, 128];
/// What is sent: calls over UDP, and the first segment of a connection.
const SENT: [&str; 5] = ["null", "dump", "callit", "getstat", "tcp"];

/// Some conditions of an entry, or none: the lines of a list.
fn conditions(rng: &mut Rng) -> String {
    let mut text = String::new();
    if rng.bool() {
        return text;
    }
    let mut line = |rng: &mut Rng, key: &str, values: &[&str]| {
        if rng.bool() {
            writeln!(text, "    {key}: {}", values[rng.usize(..values.len())]).expect("text");
        }
    };
    line(rng, "interfaces", &["eth0", "[eth*, x]", "other", "['*1', lan*]", "'*'"]);
    line(rng, "until", &["2020-01-01", "2199-12-31T23:59:59+02:00", "1999-12-31T00:00:00Z"]);
    line(rng, "udp", &["all", "lookups", "none"]);
    // One that is never used up, for this is about one packet at a time.
    line(rng, "rate", &["1000000/s"]);
    text
}

fn packet(source: IpAddr, sent: &str) -> Packet {
    match sent {
        "tcp" => Packet::tcp_syn(flow(source, SERVER[usize::from(source.is_ipv6())], rpc::PORT)),
        call => called_by(source, call),
    }
}

/// What `explain` says of each source and what it sends.
fn told_of(portguard: Portguard<'_>, pairs: &[(IpAddr, &'static str)]) -> Vec<Verdict> {
    let mut told = vec![None; pairs.len()];
    for sent in SENT {
        let asked: Vec<usize> = (0..pairs.len()).filter(|pair| pairs[*pair].1 == sent).collect();
        if asked.is_empty() {
            continue;
        }
        let sources: Vec<String> = asked.iter().map(|pair| pairs[*pair].0.to_string()).collect();
        let question: &[&str] =
            if sent == "tcp" { &["--proto", "tcp"] } else { &["--proto", "udp", "--call", sent] };
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let verdicts = explained(portguard, &[question, &sources[..]].concat());
        assert_eq!(verdicts.len(), asked.len());
        asked.into_iter().zip(verdicts).for_each(|(pair, verdict)| told[pair] = Some(verdict));
    }
    told.into_iter().map(|verdict| verdict.expect("a verdict")).collect()
}

#[test]
fn what_explain_says_of_lists_with_conditions_is_what_becomes_of_the_packets() {
    let lists_in_all = COUNTS.len() * Kind::ALL.len();
    let of_a_list = if is_long() { 10_000 } else { 300 } / lists_in_all;
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let (machine, lists) = (Machine::new(PORTGUARD), Lists::new());
    let [guarded, sender] = ["guarded", "sender"].map(|label| Namespace::new(label).expect("a namespace"));
    let cable = Cable::lay(&guarded, &sender, IFACE);
    let portguard = machine.portguard(&guarded);
    let path = lists.write("allowlist.yaml", [""; 0]);
    portguard.ok(&["attach", IFACE, "--allowlist", &path, "--mode", "native"]);
    let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
    for kind in Kind::ALL {
        for count in COUNTS {
            let families: Vec<(u32, Vec<Bits>)> =
                WIDTHS.map(|width| (width, list(&mut rng, kind, count, width))).to_vec();
            let udp = ["all", "lookups", "none"][rng.usize(..3)];
            let mut text = format!("udp: {udp}\nallow:\n");
            for (width, prefixes) in &families {
                for prefix in prefixes {
                    writeln!(text, "  - prefix: {}/{}", address(prefix.network, *width), prefix.length)
                        .expect("text");
                    text += &conditions(&mut rng);
                }
            }
            if families.iter().all(|(_, prefixes)| prefixes.is_empty()) {
                text = text.replace("allow:", "allow: []");
            }
            lists.write_text("allowlist.yaml", &text);
            portguard.ok(&["reload", "--allow-empty"]);
            let pairs: Vec<(IpAddr, &str)> = (0..)
                .map(|number| {
                    let (width, list) = &families[number % WIDTHS.len()];
                    (address(probe(&mut rng, list, *width), *width), SENT[rng.usize(..SENT.len())])
                })
                // An IPv4-mapped address is none to ask for.
                .filter(|(source, _)| source.to_canonical() == *source)
                .take(of_a_list)
                .collect();
            let told = told_of(portguard, &pairs);
            // Those that are told the same go together: then one counter must move, by as many.
            let mut alike: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
            for (pair, told) in told.iter().enumerate() {
                alike.entry(told.reason.as_deref()).or_default().push(pair);
            }
            for (reason, pairs_alike) in alike {
                let context = |pair: usize| {
                    format!(
                        "PORTGUARD_SEED={seed}: {kind:?}, {count} prefixes, {:?}: {:?}",
                        pairs[pair], told[pair]
                    )
                };
                portguard.ok(&["stats", "--reset"]);
                let packets: Vec<Packet> =
                    pairs_alike.iter().map(|pair| packet(pairs[*pair].0, pairs[*pair].1)).collect();
                for (pair, past) in pairs_alike.iter().zip(cable.get_past(&packets)) {
                    assert_eq!(past, reason.is_none(), "{}", context(*pair));
                    assert_eq!(
                        told[*pair].verdict,
                        if past { "allowed" } else { "dropped" },
                        "{}",
                        context(*pair)
                    );
                    assert_eq!(
                        told[*pair].entry.is_none(),
                        reason == Some("not_allowed"),
                        "{}",
                        context(*pair)
                    );
                }
                let (sent, stats) = (packets.len() as u64, portguard.stats_of(packets.len() as u64));
                let context =
                    || format!("{reason:?}, {sent} times: {}: {:?}", context(pairs_alike[0]), stats.totals);
                assert_eq!(
                    stats.totals.allowed.packets,
                    if reason.is_none() { sent } else { 0 },
                    "{}",
                    context()
                );
                for (other, moved) in stats.totals.by_reason.each() {
                    assert_eq!(
                        moved.packets,
                        if reason == Some(other) { sent } else { 0 },
                        "{other}: {}",
                        context()
                    );
                }
                *by_reason.entry(reason.unwrap_or("allowed").to_owned()).or_default() += sent;
            }
        }
    }
    let pairs: u64 = by_reason.values().sum();
    println!(
        "\n{}",
        Figures::of("explain conditions").with("lists", lists_in_all as u64).with("pairs", pairs)
    );
    for verdict in ["allowed", "not_allowed", "expired", "wrong_interface", "call_not_allowed"] {
        assert!(
            by_reason.get(verdict).is_some_and(|pairs| *pairs > 3),
            "{verdict} was hardly tried: {by_reason:?}"
        );
    }
}
