//! Names of interfaces that change while entries of a list refer to them.

use std::collections::BTreeMap;

use super::trials::is_waiting;
use super::{Reconciler, State, Trigger};
use crate::guard::Guard;
use crate::interface::{self, Interface};

/// The names of interfaces, by the index of the interface.
pub(super) type Names = BTreeMap<u32, Vec<String>>;

impl Reconciler {
    /// Remembers the names of interfaces that are about to get a guard, and that have none so far. If the file cannot be
    /// loaded, a guard may have a list that was loaded when its interface had other names.
    pub(super) fn remember_names(&mut self, interfaces: &[Interface], is_loaded: bool) {
        for interface in interfaces {
            if self.targets.iter().any(|target| interface.is_called(&target.name)) {
                let known = || if is_loaded { names(interface) } else { Vec::new() };
                self.names.entry(interface.index).or_insert_with(known);
            }
        }
    }

    /// Loads the list again where a kept interface has other names than when its list was loaded, and entries have conditions: they may
    /// be for other interfaces then.
    pub(super) fn follow_names(&mut self) {
        // If they cannot be read, the next check reads them.
        let Ok(interfaces) = interface::all() else { return };
        let mut renamed = Vec::new();
        for interface in &interfaces {
            let now = names(interface);
            let has_changed = self.names.get(&interface.index).is_some_and(|before| *before != now);
            if !has_changed {
                continue;
            }
            match self.must_load_again(interface) {
                Some(false) => drop(self.names.insert(interface.index, now)),
                Some(true) => renamed.push((interface, now)),
                None => {}
            }
        }
        self.names.retain(|index, _| interfaces.iter().any(|interface| interface.index == *index));
        if renamed.is_empty() {
            return;
        }
        let only: Vec<String> = renamed.iter().map(|(interface, _)| interface.name.clone()).collect();
        let mut messages = self.reload(Trigger::Renamed, &only);
        // What could not be loaded keeps the names of before, and is tried again.
        for (interface, now) in &renamed {
            if self.names.get(&interface.index) == Some(now) {
                let text = format!("{}: it has other names; its list was loaded again", interface.name);
                messages.note(text);
            }
        }
        messages.log();
    }

    /// Whether the list of an interface with other names must be loaded again; none if that cannot be done now.
    fn must_load_again(&self, interface: &Interface) -> Option<bool> {
        let is_kept = self
            .targets
            .iter()
            .any(|target| matches!(target.state, State::Kept { ifindex, .. } if ifindex == interface.index));
        let guard = Guard::find(&self.pin_root, interface).ok().flatten().filter(|_| is_kept);
        let Some(guard) = guard.filter(|it| it.list().is_some_and(|list| list.conditional > 0)) else {
            return Some(false);
        };
        // A list on trial remains until it is confirmed, and every list while the file is broken.
        (self.broken.is_none() && matches!(is_waiting(&guard), Ok(false))).then_some(true)
    }
}

pub(super) fn names(interface: &Interface) -> Vec<String> {
    interface.names().into_iter().map(str::to_owned).collect()
}
