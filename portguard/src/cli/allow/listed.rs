//! What is on the list already decides whether a new entry may be added.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::allowlist::{Allowlist, Conditions, Effective, Entry};
use crate::cli::change::Placed;
use crate::error::{Error, Result};

/// What becomes of an entry that is there already.
pub(super) struct Renewed {
    pub(super) prefix: IpNet,
    pub(super) comment: Option<String>,
    pub(super) conditions: Conditions,
}

/// The entries that are there already, and get other conditions: a later end, or with `force` those that the command names. `present`
/// keeps the others.
///
/// # Errors
/// An entry allows something else than the new one would.
pub(super) fn renewed(
    present: &mut Vec<Placed>,
    new: &Conditions,
    list: &Allowlist,
    force: bool,
) -> Result<Vec<Renewed>> {
    if present.is_empty() {
        return Ok(Vec::new());
    }
    let entries = by_prefix(list);
    let effective = Effective::of(Some(new), list.udp_calls());
    let (mut renewed, mut kept) = (Vec::new(), Vec::new());
    for placed in present.drain(..) {
        let Placed { prefix, line } = placed;
        let Some(entry) = entries.get(&prefix) else { continue };
        let comment = entry.comment().map(str::to_owned);
        if effective.allows_as(&list.effective(entry)) {
            kept.push(placed);
        } else if let Some(conditions) = with_later_end(entry, new, list) {
            renewed.push(Renewed { prefix, comment, conditions });
        } else if force {
            renewed.push(Renewed { prefix, comment, conditions: new.clone() });
        } else {
            let told = |conditions: &Conditions| match conditions.is_empty() {
                true => "none".to_owned(),
                false => conditions.to_string(),
            };
            let has = entry.conditions().map_or_else(|| told(&Conditions::default()), told);
            return Err(Error::failed(format!(
                "{prefix} is on the list already, on line {line}, with other conditions"
            ))
            .because(format!("it has: {has}; the command names: {}", told(new)))
            .remedy("Nothing was changed. To give it the conditions that the command names, use --force; or change it: portguard edit"));
        }
    }
    *present = kept;
    Ok(renewed)
}

/// The conditions of an entry with a later end, if that is all in which it would differ. Conditions that the command does not name stay.
fn with_later_end(entry: &Entry, new: &Conditions, list: &Allowlist) -> Option<Conditions> {
    let old = entry.conditions()?;
    let until = new.until.filter(|new| old.until.is_some_and(|old| old < *new))?;
    let named = Conditions {
        interfaces: new.interfaces.clone().or_else(|| old.interfaces.clone()),
        until: old.until,
        udp: new.udp.or(old.udp),
        rate: new.rate.or(old.rate),
    };
    let is_same = Effective::of(Some(&named), list.udp_calls()).allows_as(&list.effective(entry));
    is_same.then(|| Conditions { until: Some(until), ..old.clone() })
}

/// Fails if a new entry would deny what the entry around it allows: the longest prefix decides.
pub(super) fn require_as_permissive(missing: &[IpNet], new: &Conditions, list: &Allowlist) -> Result<()> {
    let entries = by_prefix(list);
    let effective = Effective::of(Some(new), list.udp_calls());
    for &prefix in missing {
        let Some(around) = around(prefix, &entries) else { continue };
        let strictures = effective.stricter_than(&list.effective(around));
        if !strictures.is_empty() {
            let (outer, line) = (around.prefix(), around.line());
            return Err(Error::failed(format!(
                "{prefix} is inside {outer}, on line {line}, and would be stricter"
            ))
            .because(strictures.text(prefix))
            .remedy(
                "Nothing was changed. The longest prefix decides, with its own conditions. Leave the new entry out if the larger \
                 one is enough; if it is meant to be stricter, use --force",
            ));
        }
    }
    Ok(())
}

fn by_prefix(list: &Allowlist) -> HashMap<IpNet, &Entry> {
    list.entries().iter().map(|entry| (entry.prefix(), entry)).collect()
}

/// The entry with the longest prefix around this one.
fn around<'a>(prefix: IpNet, entries: &HashMap<IpNet, &'a Entry>) -> Option<&'a Entry> {
    let mut around = prefix.supernet();
    while let Some(prefix) = around {
        if let Some(&entry) = entries.get(&prefix) {
            return Some(entry);
        }
        around = prefix.supernet();
    }
    None
}
