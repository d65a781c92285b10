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

use xtask::proof::figures::Figures;

use crate::support::{IFACE, Ledger, Stage, Status, program_on};

/// How many kills the short form spreads over a command.
const SAMPLE: u64 = 24;
/// After so many kills the state must also be one that nothing is left behind in.
const TIDY: u64 = 50;

/// Asserts that `status` tells what the kernel says, and that the port is guarded. Returns what it tells.
#[track_caller]
fn assert_guarded(stage: &Stage, after: &str) -> Status {
    let status = assert_attached(stage, after);
    assert!(status.enforcing, "{after}: {status:?}");
    status
}

/// Asserts that `status` tells what the kernel says: a guard that enforces, or only counts. Returns what it tells.
#[track_caller]
fn assert_attached(stage: &Stage, after: &str) -> Status {
    let status = stage.portguard().status();
    let namespace = stage.server.namespace();
    assert_eq!(program_on(namespace, IFACE), Some(status.program.id), "{after}: {status:?}");
    assert_eq!(stage.machine.link(&status.pinned).program, status.program.id, "{after}: {status:?}");
    assert_eq!(namespace.ifindex(IFACE).expect("its index"), status.ifindex, "{after}");
    status
}

/// Asserts that nothing leaked, nothing was lost, and everything was counted; adds how much that was.
#[track_caller]
fn account(stage: &Stage, ledger: &Ledger, figures: Figures) -> Figures {
    ledger.assert_sealed();
    stage.portguard().assert_counted(ledger);
    stage.machine.assert_tidy(1);
    figures
        .with("denied packets sent", ledger.sent_denied().packets)
        .with("of them delivered", 0)
        .with("allowed packets sent", ledger.sent_allowed().packets)
        .with("of them lost", 0)
}
