//! Lists of all sizes, one after the other.

use std::thread;

use portguard_testkit::figures::Figures;

use super::{account, assert_guarded, testbed};
use crate::support::{Testbed, Traffic, is_long};

/// Prefixes beside those that the flows need.
const SIZES: [u32; 6] = [0, 1, 10, 1_000, 10_000, 100_000];

/// A list that covers the allowed flows, and so many more. Returns its path.
fn list(testbed: &Testbed, size: u32) -> String {
    // 10.0.0.0/8 in /30s, from the top down; half of them IPv6.
    let more = (0..size).map(|number| match number % 2 {
        0 => format!("10.{}.{}.{}/30", number >> 14 & 255, number >> 6 & 255, (number & 63) << 2),
        _ => format!("2001:db8:ff:{:x}::/64", number >> 1),
    });
    let own = ["192.0.2.0/24", "2001:db8::/48"].map(str::to_owned);
    testbed.lists.write(&format!("list-{size}.yaml"), own.into_iter().chain(more))
}

#[test]
fn lists_are_switched_without_a_gap_whatever_their_size() {
    let switches: usize = if is_long() { 1000 } else { 14 };
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let lists = SIZES.map(|size| list(&testbed, size));
    let mut entries = 0;
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for switch in 0..switches {
            let (size, list) = (SIZES[switch % SIZES.len()], &lists[switch % SIZES.len()]);
            portguard.ok(&["reload", "--allowlist", list]);
            let status = assert_guarded(&testbed, list);
            let prefixes = status.allowlist.prefixes_v4 + status.allowlist.prefixes_v6;
            assert_eq!((prefixes, status.generation), (size + 2, switch as u64 + 2));
            assert_eq!((&*status.allowlist.path, &*status.allowlist.file.state), (&**list, "unchanged"));
            entries += u64::from(prefixes);
        }
        traffic.end()
    });
    let figures =
        Figures::of("lists").with("lists switched", switches as u64).with("entries in all", entries);
    println!("{}", account(&testbed, &exchanged, figures));
}
