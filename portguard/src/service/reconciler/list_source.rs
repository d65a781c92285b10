//! The list that a service puts in force: the one of its file, or the last good one if that file is broken.

use super::target::{ListSource, Unusable};
use super::trials::is_waiting;
use super::{Reconciler, State, Trigger};
use crate::allowlist::{Allowlist, Invalid, last_good};
use crate::error::Error;
use crate::guard::Guard;
use crate::ops::Messages;
use crate::ops::lists::{keep_last_good, load};

impl Reconciler {
    /// The list for guards now.
    pub(super) fn list_source(&mut self, messages: &mut Messages) -> ListSource {
        let error = match load(&self.order.allowlist, messages) {
            Ok(list) => {
                self.broken = None;
                return ListSource::File(list);
            }
            Err(error) => error,
        };
        let (kind, text) = (error.kind(), error.what().to_owned());
        let why = Unusable { kind, text, path: self.order.allowlist.clone() };
        self.tell_broken(error, Trigger::Changed, messages);
        self.reloads.found_broken();
        let last_good = last_good::of(&self.order.allowlist).unwrap_or_else(|unusable| {
            messages.error(unusable);
            None
        });
        ListSource::Broken { last_good, why }
    }

    /// Reports the problems of the file: once, unless a user has asked for a reload.
    pub(super) fn tell_broken(&mut self, error: Error, trigger: Trigger, messages: &mut Messages) {
        let found = Invalid::of(&error).and_then(|invalid| invalid.sha256);
        if matches!(trigger, Trigger::Asked { .. }) || self.broken != Some(found) {
            messages.error(error);
            // At the start, each interface with a list in force has a message of its own.
            if self.keeps_any() {
                messages.warning(format!(
                    "{} is broken: the lists in force remain",
                    self.order.allowlist.display()
                ));
            }
        }
        self.broken = Some(found);
    }

    /// Keeps a copy of a list if it is in force, and not on trial.
    pub(super) fn keep_last_good(&self, list: &Allowlist, messages: &mut Messages) {
        let has_it = |guard: &Guard| {
            guard.list().is_some_and(|it| it.sha256 == list.sha256()) && is_waiting(guard).is_ok_and(|it| !it)
        };
        let mut kept = self.targets.iter().filter(|target| matches!(target.state, State::Kept { .. }));
        if kept.any(|target| Guard::by_name(Some(&self.pin_root), &target.name).is_ok_and(|it| has_it(&it))) {
            keep_last_good(list, messages);
        }
    }

    /// Whether this service keeps a guard.
    pub(super) fn keeps_any(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.state, State::Kept { .. }))
    }
}
