//! Conditions of entries: the loaded program, with the index in front of the tries, is held against a naive search of random lists
//! whose entries have random conditions. The longest prefix decides, and its conditions alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Instant;

use fastrand::Rng;
use portguard_testkit::oracle::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, ethernet};
use portguard_testkit::oracle::lists::{Bits, Kind, address, list, probe};
use portguard_testkit::oracle::seed;

use crate::frames::{DUMP, Link};
use crate::kernel::{GUARDED, Kernel, Moved, Unit};
use crate::report;

/// Addresses asked for each list and family.
const PROBES: usize = 400;
const WIDTHS: [u32; 2] = [32, 128];

/// An entry, as the test thinks of it.
#[derive(Debug, Clone, Copy)]
struct Rule {
    prefix: Bits,
    is_elsewhere: bool,
    has_ended: bool,
    udp: Option<&'static str>,
    /// More than the frames that are sent in a second, so that it never runs out.
    is_rated: bool,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sent {
    Null,
    Dump,
    Syn,
}

impl Rule {
    fn random(rng: &mut Rng, prefix: Bits) -> Self {
        let mut one_in = |of: u32| rng.u32(..of) == 0;
        let (is_elsewhere, has_ended, is_rated) = (one_in(4), one_in(4), one_in(4));
        let udp = [None, None, Some("all"), Some("lookups"), Some("none")][rng.usize(..5)];
        Self { prefix, is_elsewhere, has_ended, udp, is_rated }
    }

    /// Half of the entries have none.
    fn plain(prefix: Bits) -> Self {
        Self { prefix, is_elsewhere: false, has_ended: false, udp: None, is_rated: false }
    }

    fn yaml(&self, width: u32) -> String {
        let mut text =
            format!("  - prefix: {}/{}\n", address(self.prefix.network, width), self.prefix.length);
        let interfaces =
            if self.is_elsewhere { "[other, lan*]".to_owned() } else { format!("[lo, {}*]", &GUARDED[..3]) };
        // A condition that holds is one, too.
        writeln!(text, "    interfaces: {interfaces}").unwrap();
        writeln!(
            text,
            "    until: {}",
            if self.has_ended { "2020-01-01" } else { "2199-12-31T23:59:59+02:00" }
        )
        .unwrap();
        if let Some(udp) = self.udp {
            writeln!(text, "    udp: {udp}").unwrap();
        }
        if self.is_rated {
            text += "    rate: 1000000/s\n";
        }
        text
    }

    /// Why it denies what is sent, in a list that permits these calls.
    fn denies(&self, sent: Sent, udp_of_list: &str) -> Option<&'static str> {
        match self {
            Self { is_elsewhere: true, .. } => Some("wrong_interface"),
            Self { has_ended: true, .. } => Some("expired"),
            _ if sent == Sent::Syn => None,
            _ => match (self.udp.unwrap_or(udp_of_list), sent) {
                ("all", _) | ("lookups", Sent::Null) => None,
                _ => Some("call_not_allowed"),
            },
        }
    }
}

fn yaml(udp: &str, lists: &[(u32, &[Rule])]) -> String {
    let mut text = format!("udp: {udp}\nallow:\n");
    if lists.iter().all(|(_, list)| list.is_empty()) {
        return format!("udp: {udp}\nallow: []\n");
    }
    for (width, list) in lists {
        for rule in *list {
            let plain = format!("  - {}/{}\n", address(rule.prefix.network, *width), rule.prefix.length);
            let has_none = !rule.is_elsewhere && !rule.has_ended && rule.udp.is_none() && !rule.is_rated;
            text += &if has_none { plain } else { rule.yaml(*width) };
        }
    }
    text
}

fn frame_of(source: IpAddr, sent: Sent) -> Vec<u8> {
    let null = {
        let mut call = DUMP;
        call[23] = 0;
        call
    };
    let message: &[u8] = if sent == Sent::Null { &null } else { &DUMP };
    let (ethertype, packet) = match source {
        IpAddr::V4(source) => {
            let header = Ipv4 { source: source.octets(), ..Ipv4::default() };
            let syn = sent == Sent::Syn;
            (ETHERTYPE_IPV4, if syn { header.tcp(700, 111, 2) } else { header.udp(700, 111, message) })
        }
        IpAddr::V6(source) => {
            let header = Ipv6 { source: source.octets(), ..Ipv6::default() };
            let syn = sent == Sent::Syn;
            (ETHERTYPE_IPV6, if syn { header.tcp(700, 111, 2) } else { header.udp(700, 111, message) })
        }
    };
    [ethernet(&[], ethertype), packet].concat()
}

/// Lists of all kinds and lengths: in the direct table, in tables, with a prefilter; and the change from one to the next, with and
/// without conditions.
#[test]
fn the_longest_entry_decides_with_its_own_conditions() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let kernel = Kernel::new(Link::Ethernet, "allow: []\n", &[]);
    let (mut wrong, mut asked) = (Vec::new(), 0);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in Kind::ALL {
        for count in [1, 3, 40, 700, 6000] {
            let udp = ["all", "lookups", "none"][rng.usize(..3)];
            let with_conditions = rng.u32(..6) > 0;
            let lists = WIDTHS.map(|width| {
                let prefixes = list(&mut rng, kind, count, width);
                let rules = prefixes.into_iter().map(|prefix| match with_conditions && rng.bool() {
                    true => Rule::random(&mut rng, prefix),
                    false => Rule::plain(prefix),
                });
                rules.collect::<Vec<_>>()
            });
            kernel.reload(&yaml(udp, &[(32, &lists[0]), (128, &lists[1])]));
            let mut probes = Vec::new();
            for (width, list) in WIDTHS.into_iter().zip(&lists) {
                let prefixes: Vec<Bits> = list.iter().map(|rule| rule.prefix).collect();
                for _ in 0..PROBES {
                    let bits = probe(&mut rng, &prefixes, width);
                    let sent = [Sent::Null, Sent::Dump, Sent::Syn][rng.usize(..3)];
                    let covering = list.iter().filter(|rule| rule.prefix.covers(bits));
                    let longest = covering.max_by_key(|rule| rule.prefix.length);
                    let expected = longest.map_or(Some("not_allowed"), |rule| rule.denies(sent, udp));
                    probes.push((address(bits, width), sent, expected));
                }
            }
            let frames: Vec<_> = probes.iter().map(|(source, sent, _)| frame_of(*source, *sent)).collect();
            let (passed, moved) = kernel.judge_all(&frames.iter().collect::<Vec<_>>());
            let mut reasons: BTreeMap<&str, i128> = BTreeMap::new();
            for ((source, sent, expected), passed) in probes.into_iter().zip(passed) {
                asked += 1;
                *seen.entry(expected.unwrap_or("allowed")).or_default() += 1;
                expected.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
                if passed != expected.is_none() {
                    wrong.push(format!(
                        "PORTGUARD_SEED={seed}, {kind:?}, {count}, udp {udp}: {sent:?} from {source}: {expected:?} expected, and \
                         it passed: {passed}"
                    ));
                }
            }
            let counted: BTreeMap<&str, i128> = moved
                .into_iter()
                .filter_map(|(counter, by)| match counter {
                    Moved::Denied(reason, Unit::Packets) => Some((reason, by)),
                    _ => None,
                })
                .collect();
            if counted != reasons {
                wrong.push(format!(
                    "PORTGUARD_SEED={seed}, {kind:?}, {count}, udp {udp}: {counted:?}, not {reasons:?}"
                ));
            }
        }
    }
    report(&wrong, asked);
    for verdict in ["allowed", "not_allowed", "call_not_allowed", "wrong_interface", "expired"] {
        assert!(seen.get(verdict).is_some_and(|count| *count > 100), "{verdict} was hardly tried: {seen:?}");
    }
}

/// Exactly so many in a second, for all sources of the entry together; another entry has its own, and TCP is not concerned. What is
/// denied for another reason does not count.
#[test]
fn an_entry_lets_pass_as_many_datagrams_in_a_second_as_its_rate() {
    const RATE: usize = 40;
    let text = format!(
        "udp: lookups\nallow:\n  - prefix: 10.0.0.0/8\n    rate: {RATE}/s\n  - prefix: 192.0.2.7\n    rate: 1/s\n  - 198.51.100.0/24\n"
    );
    let kernel = Kernel::new(Link::Ethernet, &text, &[]);
    let frame = |source: [u8; 4], sent| frame_of(IpAddr::from(source), sent);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for number in 0..3 * RATE as u8 {
        frames.push(frame([10, number, 0, 1], Sent::Dump));
        frames.push(frame([10, number, 0, 1], Sent::Null));
        frames.push(frame([192, 0, 2, 7], Sent::Null));
        frames.push(frame([10, 0, 0, 1], Sent::Syn));
        frames.push(frame([198, 51, 100, 1], Sent::Null));
    }
    // A second that ends meanwhile gives a second budget: until all frames are in one.
    for attempt in 0.. {
        assert!(attempt < 50, "no second had time for {} frames", frames.len());
        kernel.await_second();
        let begun = Instant::now();
        let (passed, moved) = kernel.judge_all(&frames.iter().collect::<Vec<_>>());
        if begun.elapsed().as_millis() > 800 {
            continue;
        }
        let of = |kind: usize| passed.iter().skip(kind).step_by(5).filter(|passed| **passed).count();
        assert_eq!([0, 1, 2, 3, 4].map(of), [0, RATE, 1, 3 * RATE, 3 * RATE]);
        // The first ones, not just any.
        assert!(passed.iter().skip(1).step_by(5).take(RATE).all(|passed| *passed));
        let exceeded = (Moved::Denied("rate_exceeded", Unit::Packets), (2 * RATE + 3 * RATE - 1) as i128);
        assert!(moved.contains(&exceeded), "{moved:?}");
        let not_allowed = (Moved::Denied("call_not_allowed", Unit::Packets), 3 * RATE as i128);
        assert!(moved.contains(&not_allowed), "{moved:?}");
        break;
    }
}
