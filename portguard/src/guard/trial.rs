//! Changes on trial: if such a change is not confirmed, the previous state is restored.
//!
//! A change on trial makes a new instance with a policy and lists of its own, and does not modify the live instance. It
//! shares the counters of the live instance, unless their layout or sizes change. So one `BPF_LINK_UPDATE` puts the
//! whole change in force, and one takes the whole change back.
//!
//! The states that a kill can leave, by the record and by the instance that the link runs:
//!
//! | record | the link runs | state | next |
//! |---|---|---|---|
//! | none | any instance | no change waits | another instance is a leftover |
//! | pending | the instance on trial | the change waits | at the deadline, the previous instance is restored |
//! | pending | the previous instance | the change is not in force | its remains are removed at once |
//! | rejected | any instance | no change waits | the list with that hash is not loaded automatically |
//!
//! All other changes are refused while a change waits, so no other change removes an instance or a list in the meantime.

use std::os::fd::AsFd as _;
use std::time::Duration;

use portguard_common::confirm::{PENDING, Pending, RESTORES_NO_GUARD};

use crate::allowlist::{Allowlist, Sha256Sum};
use crate::error::{Error, Result};
use crate::guard::bpffs::PinRoot;
use crate::guard::confirm::{self, Confirmation, Trial, Waits};
use crate::guard::event::Event;
use crate::guard::in_force;
use crate::guard::instance::{self, Instance, InstanceName, Origin};
use crate::guard::link::{PinnedLink, remove_directory};
use crate::guard::order::{self, Named};
use crate::guard::{Guard, bpf, earlier, guarded, lists, take_off};
use crate::time;

/// The changes that [`restore`] takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Changes whose deadline has passed.
    Overdue,
    /// Changes whose deadline has passed, and the change with this token.
    Token(u64),
}

/// A change that was taken back, or could not be.
#[derive(Debug)]
pub struct Restored {
    /// The name of the interface.
    pub interface: String,
    /// An error if the previous state could not be restored.
    pub result: Result<()>,
}

impl Guard {
    /// Renews the guard, as [`Guard::renew`] does, on trial. The caller holds the lock.
    ///
    /// # Errors
    /// A named part cannot be changed, or the kernel refuses. The guard continues unchanged.
    pub fn renew_on_trial(
        self,
        list: Option<&Allowlist>,
        named: Named,
        allow_empty: bool,
        trial: Trial,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        self.require_renewable(list, named, allow_empty)?;
        if self.task(named)?.hook != self.hook().kind() {
            let name = &self.interface().name;
            return Err(Error::failed(format!("{name}: a change of the hook cannot be on trial"))
                .because("it takes another link, and the one of before is not kept")
                .remedy("Leave out --confirm, or --hook."));
        }
        let interface = self.pinned.directory.clone();
        let old_sizes = self.instance.counters.own.sizes()?;
        let sizes = order::sizes_for(named.sources, old_sizes)?;
        let content = self.content(list)?;
        let origin = if self.instance.is_current() && sizes == old_sizes {
            Origin::NewLists(&self.instance, content.capacities()?)
        } else {
            Origin::New(sizes, content.capacities()?)
        };
        let new = self.prepare(&content, named, origin, tell)?;
        let hash = |instance| in_force::list(instance).map(|list| list.sha256);
        let record = confirm::exchange(trial, [&self.instance, &new], [hash(&self.instance), hash(&new)]);
        let former = confirm::read(&interface)?;
        confirm::write(&interface, &record).inspect_err(|_| self.abandon(&new))?;
        let replaced = self.replace(new, named, tell).inspect_err(|_| {
            // The first error is the one to report.
            let _ = match &former {
                Some(former) => confirm::write(&interface, former),
                None => confirm::remove(&interface),
            };
        });
        replaced.map(|(guard, _)| guard)
    }

    /// The last change that was on trial; `None` if there was none, or if it was confirmed.
    pub fn confirmation(&self) -> Result<Option<Confirmation>> {
        let record = confirm::read(&self.pinned.directory)?;
        Ok(record.map(|record| Confirmation::of(&record, Some(self.instance.name()))))
    }

    /// Whether a list was on trial and was not confirmed. Such a list must come into force only by an explicit command.
    pub fn rejects(&self, list: Sha256Sum) -> Result<bool> {
        let record = confirm::read(&self.pinned.directory)?;
        Ok(record.is_some_and(|record| {
            !confirm::is_in_force(&record, Some(self.instance.name())) && confirm::rejects(&record, list)
        }))
    }

    /// Confirms the change that waits. The caller holds the lock, and has restored overdue changes before.
    ///
    /// # Errors
    /// No change waits; or the remains of the previous instance cannot be removed, and the change is confirmed anyway.
    pub fn confirm(&self) -> Result<()> {
        let interface = &self.pinned.directory;
        let live = self.instance.name();
        let record = confirm::read(interface)?;
        let state = record.map(|record| (record, Confirmation::of(&record, Some(live)).state));
        let nothing = format!("{}: no change waits for its confirmation", self.interface().name);
        let record = match state {
            Some((record, Waits::Pending)) => record,
            None => return Err(Error::failed(nothing)),
            Some((_, Waits::Rejected)) => {
                return Err(Error::failed(nothing)
                    .because("the last one was not confirmed in time, and the previous state is in force"));
            }
            Some((_, Waits::Overdue)) => {
                return Err(Error::failed(nothing).because(
                    "the last one was not confirmed in time, and the previous state cannot be restored",
                ));
            }
        };
        // After this step, the change is confirmed, and any other instance is a leftover.
        confirm::remove(interface)?;
        if record.restores == RESTORES_NO_GUARD {
            return Ok(());
        }
        lists::keep_pins_in_force(interface, &self.instance)?;
        remove_directory(&InstanceName::from(record.before).directory(interface))
    }

    /// Fails if a change waits for its confirmation: the state that it may restore must remain.
    pub(super) fn require_settled(&self) -> Result<()> {
        let Some(confirmation) = self.confirmation()?.filter(Confirmation::is_in_force) else {
            return Ok(());
        };
        let name = &self.interface().name;
        let until = time::time_of_day(confirmation.deadline);
        Err(Error::failed(format!("{name}: a change waits for its confirmation until {until}")).remedy(
            format!(
                "Keep it with: portguard confirm {name}; or wait until portguard restores the previous state."
            ),
        ))
    }

    /// Removes the record of a rejected list, after another list was put in force.
    pub(super) fn forget_rejected(&self) -> Result<()> {
        confirm::remove(&self.pinned.directory)
    }
}

/// Takes back the changes of this network namespace that are due, and removes the remains of changes that are not in
/// force. The caller holds the lock. `tell` gets the name of the interface with each event.
///
/// # Errors
/// The guards cannot be looked up. An error with one guard is in its [`Restored::result`].
pub fn restore(pin_root: &PinRoot, due: Due, tell: &mut dyn FnMut(&str, Event)) -> Result<Vec<Restored>> {
    let mut restored = Vec::new();
    for (pinned, record, live) in waiting(pin_root)? {
        let is_due = match due {
            Due::Token(token) if token == record.token => true,
            _ => confirm::remaining(&record).is_zero(),
        };
        if confirm::is_in_force(&record, live) && !is_due {
            continue;
        }
        let interface = pinned.interface.name.clone();
        let result = take_back(&pinned, record, live, &mut |event| tell(&interface, event));
        restored.push(Restored { interface, result });
    }
    Ok(restored)
}

/// The time until the first change of this network namespace is due, of all changes or of the one with this token. It
/// is zero if a change must be restored now, and `None` if no change waits. It takes no lock.
pub fn next_deadline(pin_root: &PinRoot, token: Option<u64>) -> Result<Option<Duration>> {
    let remaining = |(_, record, live): &(PinnedLink, Pending, Option<InstanceName>)| match record {
        record if confirm::is_in_force(record, *live) => confirm::remaining(record),
        _ => Duration::ZERO,
    };
    let waiting = waiting(pin_root)?;
    let wanted = waiting.iter().filter(|(_, record, _)| token.is_none_or(|token| record.token == token));
    Ok(wanted.map(remaining).min())
}

/// The guards of this network namespace with the record of a change that was neither confirmed nor taken back.
fn waiting(pin_root: &PinRoot) -> Result<Vec<(PinnedLink, Pending, Option<InstanceName>)>> {
    let mut waiting = Vec::new();
    // Few guards have a record, so the interfaces are read only if there is one.
    if !pin_root.all_interfaces()?.iter().any(|directory| confirm::is_there(directory)) {
        return Ok(waiting);
    }
    for interface in guarded(Some(pin_root))? {
        let Some(pinned) = PinnedLink::find(pin_root, &interface)? else { continue };
        let Some(record) = confirm::read(&pinned.directory)?.filter(|record| record.state == PENDING) else {
            continue;
        };
        let live = instance::live(&pinned.directory, pinned.program_id)?;
        waiting.push((pinned, record, live));
    }
    Ok(waiting)
}

/// Takes a change back, or removes the remains of a change that is not in force. After a kill at any moment, another
/// call completes the work.
fn take_back(
    pinned: &PinnedLink,
    record: Pending,
    live: Option<InstanceName>,
    tell: &mut dyn FnMut(Event),
) -> Result<()> {
    if record.restores == RESTORES_NO_GUARD {
        return take_off(pinned, tell);
    }
    let interface = &pinned.directory;
    let (before, trial) = (InstanceName::from(record.before), InstanceName::from(record.trial));
    let open_old = || Instance::open(interface, before);
    let old = if confirm::is_in_force(&record, live) {
        let old = match Instance::open(interface, trial) {
            Ok(new) => {
                // A process that was killed here may have pinned a part of this set, and the old instance would not
                // open.
                earlier::remove(interface, new.counters.own.id())?;
                let old = open_old()?;
                if new.counters.own.id() != old.counters.own.id() {
                    earlier::keep_in_exchange(interface, &new)?;
                }
                old
            }
            // Damaged pins must not prevent that a change is taken back.
            Err(error) => {
                tell(Event::Unreadable(error));
                open_old()?
            }
        };
        bpf::link_update(pinned.link.as_fd(), old.program().as_fd()).map_err(|error| {
            let what = format!("{}: cannot restore the previous guard", pinned.interface.name);
            Error::failed(what).caused_by(error)
        })?;
        old
    } else {
        open_old()?
    };
    remove_directory(&trial.directory(interface))?;
    lists::keep_pins_in_force(interface, &old)?;
    // The counters of the old instance continue, and are not an earlier set.
    earlier::remove(interface, old.counters.own.id())?;
    confirm::write(interface, &confirm::rejected(record))
}
