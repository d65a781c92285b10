//! The guard is tortured while an allowed and a denied flow run: no denied packet may come through, no allowed one be
//! lost, each must be counted once, and `status` must tell the truth after every fault.
//!
//! The short form runs with the other tests; `cargo xtask torture` runs the long one, and writes docs/reliability.md.

mod faults;
mod interfaces;
mod kills;
mod lists;
mod memory;
mod orders;
mod soak;
mod unload;
mod upgrades;

use portguard_testkit::figures::Figures;

use portguard_testkit::net::run;

use crate::support::{
    IFACE, PORTGUARD, Status, Testbed, TrafficTotals, is_at_tcx, program_on, programs_at_tcx,
};

/// How many kills the short form spreads over a command.
const SAMPLE: u64 = 24;
/// After so many kills the state must also be one that nothing is left behind in.
const TIDY: u64 = 50;

/// A testbed. If guards are to be at tcx, the server's interface has the XDP program of another, so that `attach` takes tcx there.
fn testbed() -> Testbed {
    let testbed = Testbed::new(PORTGUARD);
    if is_at_tcx() {
        let mut filter = testbed.machine.command(testbed.server.namespace(), "xdp-filter");
        run(filter.args(["load", "--mode", "native", "--features", "udp", IFACE])).expect("xdp-filter");
    }
    testbed
}

/// The number of the guard's program that the kernel runs on the server's interface, if there is one.
fn guard_on(testbed: &Testbed) -> Option<u32> {
    let namespace = testbed.server.namespace();
    if is_at_tcx() {
        programs_at_tcx(namespace, namespace.ifindex(IFACE).expect("its index")).first().copied()
    } else {
        program_on(namespace, IFACE)
    }
}

/// Asserts that `status` tells what the kernel says, and that the port is guarded. Returns what it tells.
#[track_caller]
fn assert_guarded(testbed: &Testbed, after: &str) -> Status {
    let status = assert_attached(testbed, after);
    assert!(status.enforcing, "{after}: {status:?}");
    status
}

/// Asserts that `status` tells what the kernel says: a guard that enforces, or only counts. Returns what it tells.
#[track_caller]
fn assert_attached(testbed: &Testbed, after: &str) -> Status {
    let status = testbed.portguard().status();
    let namespace = testbed.server.namespace();
    assert_eq!(guard_on(testbed), Some(status.program.id), "{after}: {status:?}");
    assert_eq!(status.hook, if is_at_tcx() { "tcx" } else { "xdp" }, "{after}");
    assert_eq!(testbed.machine.link(&status.pinned).program, status.program.id, "{after}: {status:?}");
    assert_eq!(namespace.ifindex(IFACE).expect("its index"), status.ifindex, "{after}");
    status
}

/// Asserts that nothing leaked, nothing was lost, and everything was counted; adds how much that was.
#[track_caller]
fn account(testbed: &Testbed, exchanged: &TrafficTotals, figures: Figures) -> Figures {
    exchanged.assert_sealed();
    testbed.portguard().assert_counted(exchanged);
    testbed.machine.assert_tidy(1);
    figures
        .with("denied packets sent", exchanged.sent_denied().packets)
        .with("of them delivered", 0)
        .with("allowed packets sent", exchanged.sent_allowed().packets)
        .with("of them lost", 0)
}
