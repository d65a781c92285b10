//! `portguard reload`: puts a changed allowlist in force.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipnet::IpNet;

use crate::allowlist::{self, Allowlist};
use crate::cli::{DEFAULT_ALLOWLIST, Reload};
use crate::commands::{NOTHING_GUARDED, for_each, fresh, keep_last_good, load_allowlist, lock, print};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Guard, Home};
use crate::output::{self, lists::Difference, progress::Filling};

/// How many changed prefixes are listed.
const LISTED: usize = 20;

/// Reloads each of the guards, after every list has been found valid.
///
/// # Errors
/// A list is invalid, the process is not permitted, or there is no guard; what goes wrong with one guard is printed,
/// and its old list stays in force.
pub fn run(args: &Reload, out: &mut dyn Write) -> Result<ExitCode> {
    let given = args.allowlist.as_deref().map(load_allowlist).transpose()?;
    guard::require_privileges()?;
    let home = Home::find()?;
    let _lock = home.as_ref().map(lock).transpose()?;
    let given = given.map(fresh).transpose()?;
    let guards = Guard::select(home.as_ref(), &args.interfaces)?;
    if guards.is_empty() {
        return Err(Error::new(Kind::NotThere, "nothing to reload")
            .because(NOTHING_GUARDED)
            .remedy("Attach a guard with: portguard attach IFACE"));
    }
    let mut lists: BTreeMap<PathBuf, Allowlist> = BTreeMap::new();
    if given.is_none() {
        for guard in guards.iter().flatten() {
            if let Entry::Vacant(slot) = lists.entry(own_path(guard)) {
                let list = load_allowlist(slot.key())?;
                slot.insert(list);
            }
        }
    }
    let mut in_force: BTreeMap<&Path, &Allowlist> = BTreeMap::new();
    let code = for_each(guards, |guard| {
        let guard = guard?;
        let Some(list) = given.as_ref().or_else(|| lists.get(&own_path(&guard))) else { return Ok(()) };
        let told = replace_list(&guard, list, args.dry_run)?;
        if !args.dry_run {
            in_force.insert(list.path(), list);
        }
        print(out, &told)
    });
    in_force.into_values().for_each(keep_last_good);
    Ok(code)
}

/// Puts a list in force, or only looks what that would change; tells the difference, in lines. The caller holds the
/// lock.
pub(crate) fn replace_list(guard: &Guard, list: &Allowlist, dry_run: bool) -> Result<String> {
    let name = &guard.interface().name;
    let new: BTreeSet<IpNet> = list.entries().iter().map(allowlist::Entry::prefix).collect();
    let generation = guard.list().map_or(0, |list| list.generation);
    let old = guard.prefixes().inspect_err(|error| {
        output::error::note(&format!("{error}. What changes is not known."));
    });
    if !dry_run {
        let mut filling = Filling::of(name);
        guard.reload(list, &mut |event| filling.tell(event))?;
    }
    let dry_run = if dry_run { " (dry run)" } else { "" };
    Ok(match old {
        Ok(old) => {
            let difference = Difference::new(&old, &new, generation);
            format!("{name}: {difference}{dry_run}\n{}", difference.lines(LISTED))
        }
        Err(_) => {
            let now = generation + 1;
            format!("{name}: {} prefixes, generation {generation} -> {now}{dry_run}\n", new.len())
        }
    })
}

/// The file that the guard was given.
fn own_path(guard: &Guard) -> PathBuf {
    guard.list().map_or_else(|| PathBuf::from(DEFAULT_ALLOWLIST), |list| list.path)
}
