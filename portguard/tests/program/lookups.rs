//! Look-ups: the loaded program, with the index in front, and the tries alone are held against a naive search of the
//! list, for random lists and lists made to be difficult.

use std::fmt::Write as _;
use std::net::IpAddr;

use fastrand::Rng;
use portguard_testkit::oracle::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, ethernet};
use portguard_testkit::oracle::lists::{Bits, Kind, address, list, probe};
use portguard_testkit::oracle::seed;

use crate::frames::Link;
use crate::kernel::Kernel;
use crate::report;

/// Addresses asked for each list.
const PROBES: usize = 300;

/// The two address families, by the bits of their addresses.
const WIDTHS: [u32; 2] = [32, 128];

fn yaml(lists: &[(u32, &[Bits])]) -> String {
    let mut text = String::from("allow:\n");
    for (width, list) in lists {
        for prefix in *list {
            writeln!(text, "  - {}/{}", address(prefix.network, *width), prefix.length).unwrap();
        }
    }
    if text.lines().count() == 1 { "allow: []\n".to_owned() } else { text }
}

/// A question to port 111.
fn frame_of(source: IpAddr) -> Vec<u8> {
    let (ethertype, packet) = match source {
        IpAddr::V4(source) => {
            (ETHERTYPE_IPV4, Ipv4 { source: source.octets(), ..Ipv4::default() }.udp(700, 111, &[]))
        }
        IpAddr::V6(source) => {
            (ETHERTYPE_IPV6, Ipv6 { source: source.octets(), ..Ipv6::default() }.udp(700, 111, &[]))
        }
    };
    [ethernet(&[], ethertype), packet].concat()
}

#[test]
fn index_tries_and_list_agree() {
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let kernel = Kernel::new(Link::Ethernet, "allow: []\n", &[]);
    let (mut wrong, mut asked, mut covered) = (Vec::new(), 0, 0);
    for kind in Kind::ALL {
        for count in [0, 1, 3, 40, 700, 5000] {
            // Both families at once: they must not get into each other's way.
            let lists = WIDTHS.map(|width| list(&mut rng, kind, count, width));
            kernel.reload(&yaml(&[(32, &lists[0]), (128, &lists[1])]));
            let mut probes = Vec::new();
            for (width, list) in WIDTHS.into_iter().zip(&lists) {
                for _ in 0..PROBES {
                    let bits = probe(&mut rng, list, width);
                    let expected = list.iter().any(|prefix| prefix.covers(bits));
                    probes.push((address(bits, width), expected));
                }
            }
            let frames: Vec<_> = probes.iter().map(|(source, _)| frame_of(*source)).collect();
            let (passed, _) = kernel.judge_all(&frames.iter().collect::<Vec<_>>());
            let sources: Vec<_> = probes.iter().map(|(source, _)| *source).collect();
            let tries = kernel.tries_cover(&sources);
            for (((source, expected), passed), trie) in probes.into_iter().zip(passed).zip(tries) {
                asked += 1;
                covered += usize::from(expected);
                if passed != expected || trie != expected {
                    wrong.push(format!(
                        "PORTGUARD_SEED={seed}, {kind:?}, {count}: {source}: list {expected}, tries {trie}, program {passed}"
                    ));
                }
            }
        }
    }
    report(&wrong, asked);
    assert!((asked / 10..asked * 9 / 10).contains(&covered), "{covered} of {asked} are covered");
}
