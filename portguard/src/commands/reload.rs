//! `portguard reload`: puts a changed allowlist in force.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use ipnet::IpNet;

use crate::allowlist::{Allowlist, Entry};
use crate::cli::{DEFAULT_ALLOWLIST, Reload};
use crate::commands::{for_each, load_allowlist, lock, print};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Guard, Home};
use crate::output::lists::Difference;

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
    let guards = Guard::select(home.as_ref(), &args.interfaces)?;
    if guards.is_empty() {
        return Err(Error::new(Kind::NotThere, "nothing to reload")
            .because("no interface of this network namespace is guarded")
            .remedy("Attach a guard with: portguard attach IFACE"));
    }
    let mut lists: BTreeMap<PathBuf, Allowlist> = BTreeMap::new();
    if given.is_none() {
        for guard in &guards {
            let path = own_path(guard);
            if !lists.contains_key(&path) {
                let list = load_allowlist(&path)?;
                lists.insert(path, list);
            }
        }
    }
    Ok(for_each(&guards, |guard| {
        let Some(list) = given.as_ref().or_else(|| lists.get(&own_path(guard))) else { return Ok(()) };
        let generation = guard.list().map_or(0, |list| list.generation);
        let new: BTreeSet<IpNet> = list.entries().iter().map(Entry::prefix).collect();
        let difference = Difference::new(&guard.prefixes()?, &new, generation);
        let name = &guard.interface().name;
        let would = if args.dry_run { " (dry run)" } else { "" };
        if !args.dry_run {
            guard.reload(list)?;
        }
        print(out, &format!("{name}: {difference}{would}\n{}", difference.lines(LISTED)))
    }))
}

/// The file that the guard was given.
fn own_path(guard: &Guard) -> PathBuf {
    guard.list().map_or_else(|| PathBuf::from(DEFAULT_ALLOWLIST), |list| list.path)
}
