//! What `explain` says of a source is what becomes of its packets.

use std::net::IpAddr;

use fastrand::Rng;
use portguard_testkit::figures::Figures;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Namespace, rpc};
use portguard_testkit::oracle::lists::{Bits, Kind, address, list, probe};
use portguard_testkit::oracle::seed;

use super::explained;
use crate::support::{Cable, IFACE, Lists, Machine, PORTGUARD, SERVER, flow};

/// Prefixes of each family on a list.
const COUNTS: [usize; 5] = [0, 1, 5, 60, 900];
/// Sources asked about for each list: 10,000 in all.
const SOURCES: usize = 10_000 / (COUNTS.len() * Kind::ALL.len());
/// The two address families, by the bits of their addresses.
const WIDTHS: [u32; 2] = [32, 128];

#[test]
fn what_explain_says_is_what_becomes_of_the_packet() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let (machine, lists) = (Machine::new(PORTGUARD), Lists::new());
    let [guarded, sender] = ["guarded", "sender"].map(|label| Namespace::new(label).expect("a namespace"));
    let cable = Cable::lay(&guarded, &sender, IFACE);
    let portguard = machine.portguard(&guarded);
    let path = lists.write("allowlist.yaml", [""; 0]);
    portguard.ok(&["attach", IFACE, "--allowlist", &path, "--mode", "native"]);

    let (mut pairs, mut allowed) = (0_u64, 0_u64);
    for kind in Kind::ALL {
        for count in COUNTS {
            let families: Vec<(u32, Vec<Bits>)> =
                WIDTHS.map(|width| (width, list(&mut rng, kind, count, width))).to_vec();
            let prefixes = families.iter().flat_map(|(width, list)| {
                list.iter().map(|prefix| format!("{}/{}", address(prefix.network, *width), prefix.length))
            });
            lists.write("allowlist.yaml", prefixes);
            portguard.ok(&["reload", "--allow-empty"]);
            let sources: Vec<IpAddr> = (0..)
                .map(|number| {
                    let (width, list) = &families[number % WIDTHS.len()];
                    address(probe(&mut rng, list, *width), *width)
                })
                // An IPv4-mapped address is none to ask for.
                .filter(|source| source.to_canonical() == *source)
                .take(SOURCES)
                .collect();
            let texts: Vec<String> = sources.iter().map(ToString::to_string).collect();
            let told = explained(portguard, &texts.iter().map(String::as_str).collect::<Vec<_>>());
            let packets = sources.iter().map(|source| {
                Packet::udp(flow(*source, SERVER[usize::from(source.is_ipv6())], rpc::PORT), &[0; 40])
            });
            let past = cable.get_past(&packets.collect::<Vec<_>>());
            assert_eq!(told.len(), sources.len());
            for ((source, told), past) in sources.iter().zip(&told).zip(past) {
                let context = || format!("PORTGUARD_SEED={seed}: {kind:?}, {count} prefixes: {told:?}");
                assert_eq!(told.source, *source);
                assert_eq!(told.verdict, if past { "allowed" } else { "dropped" }, "{}", context());
                // And the entry is the longest of those that cover it, on its line.
                let width = if source.is_ipv4() { 32 } else { 128 };
                let bits = match source {
                    IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
                    IpAddr::V6(v6) => v6.to_bits(),
                };
                let (_, list) = &families[usize::from(source.is_ipv6())];
                let before = if source.is_ipv4() { 0 } else { families[0].1.len() };
                let covering = list.iter().enumerate().filter(|(_, prefix)| prefix.covers(bits));
                let expected = covering.max_by_key(|(_, prefix)| prefix.length).map(|(index, prefix)| {
                    // Below the line with `allow:`.
                    let line = (before + index + 2) as u32;
                    (format!("{}/{}", address(prefix.network, width), prefix.length), Some(line))
                });
                let entry = told.entry.as_ref().map(|entry| (entry.prefix.clone(), entry.line));
                assert_eq!(entry, expected, "{}", context());
                pairs += 1;
                allowed += u64::from(past);
            }
        }
    }
    // What was asked is not counted, and what was sent is.
    let stats = portguard.stats_of(pairs);
    assert_eq!(stats.totals.allowed.packets, allowed);
    assert_eq!(stats.totals.dropped.packets, pairs - allowed);
    println!(
        "\n{}",
        Figures::of("explain")
            .with("lists", (COUNTS.len() * Kind::ALL.len()) as u64)
            .with("sources", pairs)
            .with("allowed", allowed)
    );
    assert!(allowed > pairs / 5 && allowed < pairs * 4 / 5, "{allowed} of {pairs} were allowed");
}
