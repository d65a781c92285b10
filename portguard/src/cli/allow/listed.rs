//! What is on the list already decides whether a new entry may be added.

use std::collections::HashMap;

use ipnet::IpNet;

use crate::allowlist::{Allowlist, Conditions, Effective, Entry, short};
use crate::cli::change::Placed;
use crate::error::{Error, Result};

/// Fails if an entry that is there already allows something else than the new one would.
pub(super) fn require_same(present: &[Placed], new: &Conditions, list: &Allowlist) -> Result<()> {
    if present.is_empty() {
        return Ok(());
    }
    let entries = by_prefix(list);
    let effective = Effective::of(Some(new), list.udp_calls());
    for Placed { prefix, line } in present {
        let Some(entry) = entries.get(prefix) else { continue };
        if !effective.allows_as(&list.effective(entry)) {
            let told = |conditions: &Conditions| match conditions.is_empty() {
                true => "none".to_owned(),
                false => conditions.to_string(),
            };
            let has = entry.conditions().map_or_else(|| told(&Conditions::default()), told);
            return Err(Error::failed(format!(
                "{prefix} is on the list already, on line {line}, with other conditions"
            ))
            .because(format!("it has: {has}; the command names: {}", told(new)))
            .remedy(format!(
                "Nothing was changed. Take it out first (portguard revoke {}), or change it: portguard edit",
                short(*prefix)
            )));
        }
    }
    Ok(())
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
