//! Random frames, and an oracle that says what must become of them.
//!
//! Nothing here is shared with `portguard-common`: [`headers`] builds the frames, and [`judge`] reads them
//! with etherparse.

mod answer;
pub mod calls;
mod cover;
mod generator;
pub mod headers;
pub mod lists;
mod mutate;
pub mod rpc;
mod verdict;

pub use answer::Answer;
pub use cover::{ALLOWLIST, is_listed};
pub use generator::{Datagram, Generator};
pub use verdict::{Finding, is_lookup, judge, port_by_the_book, source_over_udp};

/// The seed to start from: that of `$PORTGUARD_SEED`, to see a failure again, else one that nobody has tried.
pub fn seed() -> u64 {
    match std::env::var("PORTGUARD_SEED") {
        Ok(seed) => seed.parse().expect("PORTGUARD_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

/// How many frames to try: `$PORTGUARD_FRAMES`, which `cargo xtask verify` sets, else as many as an ordinary test run
/// has time for.
pub fn frames(otherwise: u64) -> u64 {
    match std::env::var("PORTGUARD_FRAMES") {
        Ok(frames) => frames.parse().expect("PORTGUARD_FRAMES is a number"),
        Err(_) => otherwise,
    }
}
