//! Polls the guards. Each poll finds and opens them afresh, so a guard that was renewed, reset, attached again or
//! taken off between two polls needs no care.

use crate::error::{Kind, Result};
use crate::guard::{Guard, PinRoot, guarded_names};
use crate::ops::unique;
use crate::top::model::{Poll, Reading};

/// Polls the guards on these interfaces, or at all if no interface is given.
///
/// # Errors
/// Guards cannot be looked for at all. What is wrong with one of them is in its poll.
pub fn poll(names: &[String]) -> Result<Vec<Poll>> {
    let pin_root = PinRoot::find()?;
    let found = if names.is_empty() { guarded_names(pin_root.as_ref())? } else { names.to_vec() };
    let mut polls: Vec<Poll> = Vec::new();
    for name in unique(&found) {
        let guard = Guard::by_name(pin_root.as_ref(), name);
        // One that is gone a moment later was never there, if nobody has asked for it.
        if names.is_empty() && guard.as_ref().is_err_and(|error| error.kind() == Kind::NotThere) {
            continue;
        }
        // An interface has one guard, and other names.
        let interface = guard.as_ref().map_or(name.clone(), |guard| guard.interface().name.clone());
        if polls.iter().any(|poll| poll.interface == interface) {
            continue;
        }
        let found = guard.and_then(|guard| read(&guard)).map_err(|error| error.to_string());
        polls.push(Poll { interface, found });
    }
    Ok(polls)
}

fn read(guard: &Guard) -> Result<Reading> {
    Ok(Reading { hook: guard.hook(), enforcing: guard.is_enforcing(), snapshot: guard.counters()? })
}
