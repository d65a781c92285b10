//! Changes guards, and reports what has changed.

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;

use crate::allowlist::{self, Allowlist, Difference, change_of_udp_calls};
use crate::error::Result;
use crate::guard::{self, Attached, CANNOT_REPLACE, Guard, ListInfo, Named, Order, PinRoot, Trial};
use crate::interface::Interface;
use crate::ops::trial::tell_waiting;
use crate::ops::{Messages, state};
use crate::printable::counted;

/// The most changed prefixes that are listed.
const LISTED: usize = 20;

/// A change of a guard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The list; `None` keeps the list in force.
    pub(crate) list: Option<&'a Allowlist>,
    /// The named parts of its order.
    pub(crate) named: Named,
    /// Whether the list may lose all entries of an address family.
    pub(crate) allow_empty: bool,
    /// The trial, if the change must be confirmed: otherwise the previous state is restored.
    pub(crate) trial: Option<Trial>,
    /// Whether guards on top of the interface may be detached for a moment.
    pub(crate) lifts: bool,
}

/// Puts a guard on an interface, or renews its guard, and reports what has changed. Returns false if the interface has
/// no guard, and there is no list for one. The caller holds the lock.
pub(crate) fn put_on(
    pin_root: &PinRoot,
    interface: &Interface,
    name: &str,
    wanted: Wanted<'_>,
    messages: &mut Messages,
) -> Result<bool> {
    let Wanted { list, named, allow_empty, trial, lifts } = wanted;
    if let Some(guard) = Guard::find(pin_root, interface)? {
        let before = Before::of(&guard, list, messages)?;
        let tell = &mut |event| messages.take(name, event);
        let guard = match trial {
            Some(trial) => guard.renew_on_trial(list, named, allow_empty, trial, tell)?,
            None => guard.renew(list, named, allow_empty, tell)?,
        };
        messages.data(format!("{}\n", renewed(name, &guard, list)));
        for change in before.changes(&guard, list)? {
            messages.data(format!("  {change}\n"));
        }
        tell_waiting(&guard, name, messages)?;
        return Ok(true);
    }
    let Some(list) = list else { return Ok(false) };
    let Attached { hook, uppers } =
        guard::attach(pin_root, interface, list, named, trial, lifts, &mut |event| {
            messages.take(name, event);
        })?;
    for upper in uppers.on {
        messages
            .note(format!("{upper}: its guard was off for a moment, while {name}, below it, got a guard"));
    }
    uppers.failed.into_iter().for_each(|error| messages.error(error));
    let state = state(!named.audit.unwrap_or(false));
    let entries = entries(list.entries().len());
    messages.data(format!("{name}: attached {}, {state}, {entries}\n", hook.place()));
    if trial.is_some() {
        tell_waiting(&Guard::by_name(Some(pin_root), name)?, name, messages)?;
    }
    Ok(true)
}

/// Puts a list in force, on trial if there is a `trial`, and reports the difference in lines. The caller holds the lock.
pub(crate) fn replace_list(
    guard: Guard,
    list: &Allowlist,
    allow_empty: bool,
    trial: Option<Trial>,
    messages: &mut Messages,
) -> Result<()> {
    let name = &guard.interface().name.clone();
    let text = difference(&guard, list, messages);
    let tell = &mut |event| messages.take(name, event);
    let Some(trial) = trial else {
        guard.reload(list, allow_empty, tell)?;
        messages.data(text.lines(""));
        return Ok(());
    };
    guard.require_current(CANNOT_REPLACE)?;
    let guard = guard.renew_on_trial(Some(list), Named::default(), allow_empty, trial, tell)?;
    messages.data(text.lines(""));
    tell_waiting(&guard, name, messages)
}

/// Reports what a list would change, and changes nothing.
pub(crate) fn compare_list(guard: &Guard, list: &Allowlist, allow_empty: bool, messages: &mut Messages) {
    let text = difference(guard, list, messages);
    messages.data(text.lines(" (dry run)"));
    if let Err(error) = guard.require_replaceable(list, allow_empty) {
        messages.warning(format!("{}: it would be refused: {error}", guard.interface().name));
    }
}

/// The text about the difference between two lists.
struct Change {
    head: String,
    prefixes: String,
}

impl Change {
    fn lines(&self, remark: &str) -> String {
        format!("{}{remark}\n{}", self.head, self.prefixes)
    }
}

fn difference(guard: &Guard, list: &Allowlist, messages: &mut Messages) -> Change {
    let name = &guard.interface().name;
    let generation = guard.list().map_or(0, |list| list.generation);
    match prefixes(guard, messages) {
        Some(old) => {
            let in_force = guard.list().map_or(UdpCalls::All, |list| list.udp_calls);
            let difference = Difference::new(&old, &prefixes_of(list), generation)
                .with_udp_calls(in_force, list.udp_calls())
                .with_changed(changed_conditions(guard, list, messages));
            Change { head: format!("{name}: {difference}"), prefixes: difference.lines(LISTED) }
        }
        None => {
            let (prefixes, now) = (counted(list.entries().len() as u64, "prefix"), generation + 1);
            let head = format!("{name}: {prefixes}, generation {generation} -> {now}");
            Change { head, prefixes: String::new() }
        }
    }
}

/// The prefixes of the list in force. If they cannot be read, this is only a note: another list can be put in force.
fn prefixes(guard: &Guard, messages: &mut Messages) -> Option<Vec<IpNet>> {
    guard.prefixes().inspect_err(|error| messages.note(format!("{error}. The changes are not known."))).ok()
}

/// The prefixes of a list whose conditions differ from those in force, as [`prefixes`].
fn changed_conditions(guard: &Guard, list: &Allowlist, messages: &mut Messages) -> Vec<IpNet> {
    let changed = guard.changed_conditions(list);
    changed
        .inspect_err(|error| messages.note(format!("{error}. Changed conditions are not known.")))
        .unwrap_or_default()
}

/// The prefixes of a list, in order.
fn prefixes_of(list: &Allowlist) -> Vec<IpNet> {
    let mut prefixes: Vec<_> = list.entries().iter().map(allowlist::Entry::prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// A guard before it is renewed.
struct Before {
    abi: u32,
    order: Order,
    list: Option<ListInfo>,
    /// The prefixes of its list; they are read only if the list changes.
    prefixes: Option<Vec<IpNet>>,
    /// Those of the new list that have other conditions.
    changed: Vec<IpNet>,
}

impl Before {
    fn of(guard: &Guard, list: Option<&Allowlist>, messages: &mut Messages) -> Result<Self> {
        let in_force = guard.list();
        let changes = list
            .is_some_and(|list| in_force.as_ref().is_none_or(|in_force| in_force.sha256 != list.sha256()));
        let prefixes = if changes { prefixes(guard, messages) } else { None };
        let changed = match list.filter(|_| prefixes.is_some()) {
            Some(list) => changed_conditions(guard, list, messages),
            None => Vec::new(),
        };
        Ok(Self { abi: guard.abi_version(), order: guard.order()?, list: in_force, prefixes, changed })
    }

    /// The changes, a line for each.
    fn changes(&self, guard: &Guard, list: Option<&Allowlist>) -> Result<Vec<String>> {
        let mut changes = self.order.changes_to(&guard.order()?);
        if let (Some(old), Some(list)) = (&self.prefixes, list) {
            let difference = Difference::new(old, &prefixes_of(list), 0).with_changed(self.changed.clone());
            match changes.first_mut().filter(|change| change.starts_with("allowlist ")) {
                Some(change) => *change += &format!(", {}", difference.summary()),
                None => {
                    let unchanged = difference.unchanged;
                    changes.insert(0, format!("allowlist {}, {unchanged} unchanged", difference.summary()));
                }
            }
        }
        let udp_calls = |list: &Option<ListInfo>| list.as_ref().map_or(UdpCalls::All, |list| list.udp_calls);
        changes.extend(change_of_udp_calls((udp_calls(&self.list), udp_calls(&guard.list()))));
        let origin = |list: &Option<ListInfo>| list.as_ref().map(|list| list.origin);
        let after = guard.list();
        if let (Some(before), Some(after)) = (origin(&self.list), origin(&after))
            && before != after
        {
            changes.push(format!("allowlist from {} -> {}", before.key(), after.key()));
        }
        if self.abi != guard.abi_version() {
            changes.push(format!("upgraded from ABI {} to ABI {}", self.abi, guard.abi_version()));
        }
        Ok(changes)
    }
}

fn renewed(name: &str, guard: &Guard, list: Option<&Allowlist>) -> String {
    let entries = list.map_or("the list in force remains".to_owned(), |list| entries(list.entries().len()));
    let state = state(guard.is_enforcing());
    format!("{name}: renewed in place, {state}, {entries}, counters kept")
}

fn entries(number: usize) -> String {
    counted(number as u64, "entry")
}
