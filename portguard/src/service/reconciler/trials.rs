//! Changes on trial, on the interfaces that a service keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Reconciler, State, Target};
use crate::error::Result;
use crate::guard::{self, Confirmation, Due, Guard};
use crate::interface::{self, Interface};
use crate::ops::{Messages, trial};

impl Reconciler {
    /// Confirms the changes that wait on interfaces that this service keeps: on those with these names, or on all if
    /// `only` is empty.
    pub(in crate::service) fn confirm(&mut self, only: &[String]) -> Messages {
        let mut messages = self.messages();
        if let Err(error) = self.try_confirm(only, &mut messages) {
            messages.error(error);
        }
        messages
    }

    fn try_confirm(&mut self, only: &[String], messages: &mut Messages) -> Result<()> {
        let _lock = self.lock(messages)?;
        let interfaces = interface::all()?;
        let mut done = BTreeSet::new();
        for target in &self.targets {
            let State::Kept { ifindex, .. } = target.state else { continue };
            // Several targets may be names of the same interface.
            if is_among(only, &interfaces, ifindex) && done.insert(ifindex) {
                let guard = Guard::by_name(Some(&self.pin_root), &target.name);
                if let Err(error) = guard.and_then(|guard| trial::confirm(&guard, messages)) {
                    messages.error(error);
                }
            }
        }
        Ok(())
    }

    /// Takes back the changes that wait on interfaces that this service keeps. The service ends, and no process might
    /// take them back when they are due.
    pub(in crate::service) fn take_back(&mut self) {
        let waits = |target: &Target| {
            let guard = Guard::by_name(Some(&self.pin_root), &target.name).ok()?;
            let confirmation = guard.confirmation().ok().flatten().filter(Confirmation::is_in_force)?;
            matches!(target.state, State::Kept { .. }).then_some(confirmation.token)
        };
        let tokens: Vec<u64> = self.targets.iter().filter_map(waits).collect();
        if tokens.is_empty() {
            return;
        }
        let mut messages = self.messages();
        match self.lock(&mut messages) {
            Ok(_lock) => {
                for token in tokens {
                    trial::restore(&self.pin_root, Due::Token(token), &mut messages);
                }
            }
            Err(error) => messages.error(error),
        }
        messages.log();
    }

    /// How long it is until a change of this network namespace that waits for its confirmation is due.
    pub(in crate::service) fn next_deadline(&self) -> Option<Duration> {
        // Readers take no lock: a guard may be changed at this moment. The next check reads it again.
        guard::next_deadline(&self.pin_root, None).ok().flatten()
    }

    /// Whether a change waits on an interface that this service keeps.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.targets.iter().any(|target| {
            Guard::by_name(Some(&self.pin_root), &target.name).is_ok_and(|it| is_waiting(&it).unwrap_or(true))
        })
    }
}

/// Whether a change waits for its confirmation.
pub(super) fn is_waiting(guard: &Guard) -> Result<bool> {
    Ok(guard.confirmation()?.is_some_and(|it| it.is_in_force()))
}

/// Whether an interface has one of these names; true for each interface if there are no names.
pub(super) fn is_among(names: &[String], interfaces: &[Interface], ifindex: u32) -> bool {
    let mut named = interfaces.iter().filter(|it| names.iter().any(|name| it.is_called(name)));
    names.is_empty() || named.any(|it| it.index == ifindex)
}
