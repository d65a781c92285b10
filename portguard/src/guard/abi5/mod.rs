//! Guards of ABI 4 and 5: their counters, and the tries of their lists. They are read, and never written.
//!
//! The records here are frozen: see docs/internals/abi.md.

/// The last version with these layouts.
pub(super) const LAST: u32 = 5;

mod counters;
mod lists;
mod records;

pub(super) use counters::{COUNTER_MAPS, Cells, Counted};
pub(super) use lists::{covering, entries, keep_pins, trie};
