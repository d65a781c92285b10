//! The short form of a test, which runs with all others, and the long one, which `cargo xtask torture` runs.

use std::env;

/// What asks for the long form.
const LONG: &str = "PORTGUARD_TORTURE";

/// Whether everything is tried, not a sample of it.
pub(crate) fn is_long() -> bool {
    env::var(LONG).is_ok_and(|form| form == "long")
}
