//! Entries that end: the kernel has their deadlines as times since boot, which follow the wall clock when it is set.

use std::time::Duration;

use crate::guard::{self, PinRoot};
use crate::ops::Messages;

/// A deadline that is off by more than this is worth a message, and a wait for the lock.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(1);

/// Computes the deadlines of all guards again, by the clock of now, and reports what was off. The caller holds the lock for changes.
pub(crate) fn set(pin_root: &PinRoot, messages: &mut Messages) {
    match guard::set_deadlines(pin_root) {
        Ok(moved) => moved.into_iter().filter(|(_, by)| *by > TOLERANCE).for_each(|(interface, by)| {
            messages.note(format!(
                "{interface}: the clock was set, so deadlines of entries have moved by {} s",
                by.as_secs()
            ));
        }),
        Err(error) => messages.error(error),
    }
}

/// Whether the deadlines of a guard are so far off that they must be computed again.
pub(crate) fn are_off(pin_root: &PinRoot) -> bool {
    guard::deadline_drift(pin_root).is_ok_and(|drift| drift > TOLERANCE)
}
