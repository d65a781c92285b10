//! The short form of a test, which runs with all others, and the long one, which `cargo xtask torture` runs.

use std::env;
use std::ops::Range;

/// What asks for the long form.
const LONG: &str = "PORTGUARD_TORTURE";

/// Whether everything is tried, not a sample of it.
pub(crate) fn is_long() -> bool {
    env::var(LONG).is_ok_and(|form| form == "long")
}

/// What asks for guards at tcx.
const HOOK: &str = "PORTGUARD_TORTURE_HOOK";

/// Whether guards are to be at tcx, behind the XDP program of another.
pub(crate) fn is_at_tcx() -> bool {
    env::var(HOOK).is_ok_and(|hook| hook == "tcx")
}

/// The calls to kill at: all of them, or so many that are spread over them, with more of the later ones, where things
/// happen.
pub(crate) fn chosen(calls: Range<u64>, sample: u64) -> Vec<u64> {
    if is_long() {
        return calls.collect();
    }
    let number = calls.end - calls.start;
    let mut chosen: Vec<u64> =
        (0..sample).map(|step| calls.end - 1 - number * step * step / (sample * sample)).collect();
    chosen.dedup();
    chosen.reverse();
    chosen
}
