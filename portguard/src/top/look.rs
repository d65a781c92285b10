//! Looks at the guards. Each look finds and opens them afresh, so a guard that was renewed, reset, attached again or
//! taken off between two looks needs no care.

use crate::error::{Kind, Result};
use crate::guard::{Guard, PinRoot, guarded_names};
use crate::ops::unique;
use crate::top::model::{Look, Reading};

/// Looks at the guards on these interfaces, or at all if none is named.
///
/// # Errors
/// Guards cannot be looked for at all. What is wrong with one of them is in its look.
pub fn look(names: &[String]) -> Result<Vec<Look>> {
    let pin_root = PinRoot::find()?;
    let found = if names.is_empty() { guarded_names(pin_root.as_ref())? } else { names.to_vec() };
    let mut looks: Vec<Look> = Vec::new();
    for name in unique(&found) {
        let guard = Guard::by_name(pin_root.as_ref(), name);
        // One that is gone a moment later was never there, if nobody has asked for it.
        if names.is_empty() && guard.as_ref().is_err_and(|error| error.kind() == Kind::NotThere) {
            continue;
        }
        // An interface has one guard, and other names.
        let interface = guard.as_ref().map_or(name.clone(), |guard| guard.interface().name.clone());
        if looks.iter().any(|look| look.interface == interface) {
            continue;
        }
        let found = guard.and_then(|guard| read(&guard)).map_err(|error| error.to_string());
        looks.push(Look { interface, found });
    }
    Ok(looks)
}

fn read(guard: &Guard) -> Result<Reading> {
    Ok(Reading { mode: guard.mode().word(), enforcing: guard.is_enforcing(), snapshot: guard.counters()? })
}
