//! Events during the change of a guard. The code that changes a guard holds the lock of all guards, so the code that
//! receives an event must not wait for anything: no terminal, no pipe, no network.

use std::path::Path;

use crate::error::Error;
use crate::guard::counters::{Counters, SetId, Snapshot};
use crate::guard::hook::Hook;
use crate::guard::instance::{Instance, InstanceName};

/// An event during the change of a guard.
#[derive(Debug)]
pub enum Event {
    /// A part of a list is in the kernel.
    Filled {
        /// The number of entries that are in the kernel.
        entries: usize,
        /// The number of entries of the list.
        of: usize,
    },
    /// The program does not run in the best mode, or at the best hook, and none was named.
    FellBack {
        /// Where it runs.
        hook: Hook,
        /// Why it does not run elsewhere.
        why: Error,
    },
    /// The list has no complete index, so look-ups are slower. The error is the cause.
    WithoutIndex(Error),
    /// A set of counters is about to be removed: this is the last moment to keep its contents.
    Ended(Box<Ended>),
    /// A set of counters is about to be removed, and its contents cannot be read.
    Unreadable(Error),
}

/// A set of counters at its end.
#[derive(Debug)]
pub struct Ended {
    /// The inode of the network namespace of the guard.
    pub namespace: u64,
    /// The index of its interface.
    pub ifindex: u32,
    /// Whether the guard was enforcing.
    pub enforcing: bool,
    /// Why it ends.
    pub reason: EndReason,
    /// Its contents. [`Snapshot::set`] is its identity.
    pub snapshot: Snapshot,
}

/// Why a set of counters ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// `stats --reset`.
    Reset,
    /// The guard was detached.
    Detached,
    /// The interface has gone, or a portguard was killed before it removed the counters.
    Abandoned,
}

/// The guard that a set of counters belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    namespace: u64,
    ifindex: u32,
    enforcing: bool,
}

impl Whose {
    /// The guard in the directory of an interface.
    pub(super) fn of(interface: &Path, enforcing: bool) -> Self {
        let number = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
            name.and_then(|name| name.parse::<u64>().ok()).unwrap_or_default()
        };
        let ifindex = u32::try_from(number(Some(interface))).unwrap_or_default();
        Self { namespace: number(interface.parent()), ifindex, enforcing }
    }
}

/// Emits the event for the end of a set of counters, unless the set is empty.
pub(super) fn tell_end(whose: Whose, set: &Counters, reason: EndReason, tell: &mut dyn FnMut(Event)) {
    let Whose { namespace, ifindex, enforcing } = whose;
    match set.read() {
        Ok(snapshot) if snapshot.is_empty() => {}
        Ok(snapshot) => {
            tell(Event::Ended(Box::new(Ended { namespace, ifindex, enforcing, reason, snapshot })));
        }
        Err(error) => tell(Event::Unreadable(error)),
    }
}

/// Emits the events for the end of all sets of counters in the directory of an interface, except those in `live`, which
/// continue.
pub(super) fn tell_ends(interface: &Path, live: &[SetId], reason: EndReason, tell: &mut dyn FnMut(Event)) {
    let mut told = live.to_vec();
    for name in InstanceName::list(interface).unwrap_or_default() {
        if !name.is_readable() {
            continue;
        }
        // The leftovers of a killed loader may be incomplete. Such an instance was never live, and has counted nothing.
        let Ok(Instance { counters, .. }) = Instance::open(interface, name) else { continue };
        for set in counters.earlier.iter().chain([&counters.own]) {
            if !told.contains(&set.id()) {
                told.push(set.id());
                tell_end(Whose::of(interface, !name.audit), set, reason, tell);
            }
        }
    }
}
