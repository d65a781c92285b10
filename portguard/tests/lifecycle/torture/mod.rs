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

use crate::support::{IFACE, Status, Testbed, TrafficTotals, program_on};

/// How many kills the short form spreads over a command.
const SAMPLE: u64 = 24;
/// After so many kills the state must also be one that nothing is left behind in.
const TIDY: u64 = 50;

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
    assert_eq!(program_on(namespace, IFACE), Some(status.program.id), "{after}: {status:?}");
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
