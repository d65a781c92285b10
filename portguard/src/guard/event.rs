//! What there is to tell while a guard is changed. The one who changes it holds the lock of all guards, so the one who is
//! told must not wait for anything: no terminal, no pipe, no network.

use std::path::Path;

use crate::error::Error;
use crate::guard::counters::{Counters, SetId, Snapshot};
use crate::guard::instance::{Instance, InstanceName};

/// Something to tell.
#[derive(Debug)]
pub enum Event {
    /// So many entries of a list are in the kernel.
    Filled {
        /// Entries that are there.
        entries: usize,
        /// Entries of the list.
        of: usize,
    },
    /// Look-ups will be slower than they could be.
    WithoutIndex(Error),
    /// A set of counters is about to be removed: the last chance to keep what it holds.
    Ended(Box<Ended>),
    /// The same, but what it holds cannot be read.
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
    /// What it holds. [`Snapshot::set`] is its identity.
    pub snapshot: Snapshot,
}

/// Why a set of counters ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// `stats --reset`.
    Reset,
    /// The guard was taken off.
    Detached,
    /// The interface has gone, or a portguard was killed before it removed them.
    Abandoned,
}

/// Whose counters they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    namespace: u64,
    ifindex: u32,
    enforcing: bool,
}

impl Whose {
    /// Those in the directory of an interface.
    pub(super) fn of(interface: &Path, enforcing: bool) -> Self {
        let number = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
            name.and_then(|name| name.parse::<u64>().ok()).unwrap_or_default()
        };
        let ifindex = u32::try_from(number(Some(interface))).unwrap_or_default();
        Self { namespace: number(interface.parent()), ifindex, enforcing }
    }
}

/// Tells of the end of a set of counters, unless it has never counted anything.
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

/// Tells of the end of all sets of counters that only the directory of an interface holds: of a guard that is off. `live`
/// are the sets that go on.
pub(super) fn tell_ends(interface: &Path, live: &[SetId], reason: EndReason, tell: &mut dyn FnMut(Event)) {
    let mut told = live.to_vec();
    for name in InstanceName::list(interface).unwrap_or_default() {
        if !name.is_readable() {
            continue;
        }
        // What a killed loader has left may be incomplete: then it was never live, and has counted nothing.
        let Ok(Instance { counters, .. }) = Instance::open(interface, name) else { continue };
        for set in counters.earlier.iter().chain([&counters.own]) {
            if !told.contains(&set.id()) {
                told.push(set.id());
                tell_end(Whose::of(interface, !name.audit), set, reason, tell);
            }
        }
    }
}
