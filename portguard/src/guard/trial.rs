//! Changes on trial: unless one is confirmed, what was before it comes back.
//!
//! A change on trial makes a new instance with a policy and lists of its own, and leaves the live one as it is. Its counters
//! are those of the live one, where their layout and sizes stay. So one `BPF_LINK_UPDATE` puts all of the change in force,
//! and one takes all of it back.
//!
//! What a kill leaves behind, by the record and by the instance that the link runs:
//!
//! | record | the link runs | state | next |
//! |---|---|---|---|
//! | none | any | no change waits | another instance is a leftover |
//! | pending | the one on trial | the change waits | at the deadline the one of before is restored |
//! | pending | the one of before | the change is not in force | what is left of it is removed at once |
//! | rejected | any | no change waits | the list with that hash is not loaded on its own |
//!
//! Every other change is refused while one waits, so nothing else removes an instance or a list meanwhile.

use std::os::fd::AsFd as _;
use std::time::Duration;

use portguard_common::confirm::{PENDING, Pending, RESTORES_NO_GUARD};

use crate::allowlist::{Allowlist, Sha256Sum};
use crate::error::{Error, Result};
use crate::guard::bpffs::PinRoot;
use crate::guard::confirm::{self, Confirmation, Trial, Waits};
use crate::guard::event::Event;
use crate::guard::instance::{self, Instance, InstanceName, Origin};
use crate::guard::link::{PinnedLink, remove_directory};
use crate::guard::order::{self, Named};
use crate::guard::{Guard, bpf, earlier, guarded, lists, take_off};
use crate::time;

/// Which changes are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those whose deadline has passed.
    Overdue,
    /// The same, and those with a token.
    Token(u64),
}

/// A change that was taken back, or could not be.
#[derive(Debug)]
pub struct Restored {
    /// The name of the interface.
    pub interface: String,
    /// Whether what was before is in force.
    pub result: Result<()>,
}

impl Guard {
    /// Renews the guard, as [`Guard::renew`] does, on trial. The caller holds the lock.
    ///
    /// # Errors
    /// What is named cannot be changed, or the kernel refuses. The guard goes on as it was.
    pub fn renew_on_trial(
        self,
        list: Option<&Allowlist>,
        named: Named,
        allow_empty: bool,
        trial: Trial,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        self.require_renewable(list, named, allow_empty)?;
        let interface = self.pinned.directory.clone();
        let old_sizes = self.instance.counters.own.sizes()?;
        let sizes = order::sizes_for(named.sources, old_sizes)?;
        let origin = if self.instance.is_current() && sizes == old_sizes {
            Origin::NewLists(&self.instance)
        } else {
            Origin::New(sizes)
        };
        let (new, _) = self.prepare(list, named, origin, tell)?;
        let hash = |instance| lists::in_force(instance).map(|list| list.sha256);
        let record = confirm::exchange(trial, [&self.instance, &new], [hash(&self.instance), hash(&new)]);
        let former = confirm::read(&interface)?;
        confirm::write(&interface, &record).inspect_err(|_| self.abandon(&new))?;
        let replaced = self.replace(new).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = match &former {
                Some(former) => confirm::write(&interface, former),
                None => confirm::remove(&interface),
            };
        });
        replaced.map(|(guard, _)| guard)
    }

    /// How it is with the last change that was on trial, if it was not confirmed.
    pub fn confirmation(&self) -> Result<Option<Confirmation>> {
        let record = confirm::read(&self.pinned.directory)?;
        Ok(record.map(|record| Confirmation::of(&record, Some(self.instance.name()))))
    }

    /// Whether a list is what was on trial, and was not confirmed: it is to be put in force only if somebody asks for it.
    pub fn rejects(&self, list: Sha256Sum) -> Result<bool> {
        let record = confirm::read(&self.pinned.directory)?;
        Ok(record.is_some_and(|record| {
            !confirm::is_in_force(&record, Some(self.instance.name())) && confirm::rejects(&record, list)
        }))
    }

    /// Keeps the change that waits for its confirmation. The caller holds the lock, and has restored what was overdue.
    ///
    /// # Errors
    /// No change waits; or what is left of the guard before cannot be removed: then the change is confirmed all the same.
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
        // From here on it is confirmed; another instance is a leftover.
        confirm::remove(interface)?;
        if record.restores == RESTORES_NO_GUARD {
            return Ok(());
        }
        lists::keep_pins_in_force(interface, &self.instance)?;
        remove_directory(&InstanceName::from(record.before).directory(interface))
    }

    /// Fails if a change waits for its confirmation: what it restores must stay.
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

    /// Another list was put in force: what was rejected before does not matter any more.
    pub(super) fn forget_rejected(&self) -> Result<()> {
        confirm::remove(&self.pinned.directory)
    }
}

/// Takes back the changes of this network namespace that are due, and removes what is left of those that are not in force.
/// The caller holds the lock. `tell` gets the name of the interface with each event.
///
/// # Errors
/// Guards cannot be looked up. What goes wrong with one of them is in its place.
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

/// How long it is until the first change of this network namespace is due, with any token or with this one; zero if there
/// is something to restore now. It takes no lock.
pub fn next_deadline(pin_root: &PinRoot, token: Option<u64>) -> Result<Option<Duration>> {
    let remaining = |(_, record, live): &(PinnedLink, Pending, Option<InstanceName>)| match record {
        record if confirm::is_in_force(record, *live) => confirm::remaining(record),
        _ => Duration::ZERO,
    };
    let waiting = waiting(pin_root)?;
    let wanted = waiting.iter().filter(|(_, record, _)| token.is_none_or(|token| record.token == token));
    Ok(wanted.map(remaining).min())
}

/// The guards of this network namespace with a record of a change that nobody has confirmed or taken back.
fn waiting(pin_root: &PinRoot) -> Result<Vec<(PinnedLink, Pending, Option<InstanceName>)>> {
    let mut waiting = Vec::new();
    // Few guards have a record, so the interfaces are asked for only if one does.
    if !pin_root.all_interfaces()?.iter().any(|directory| confirm::is_there(directory)) {
        return Ok(waiting);
    }
    for interface in guarded(Some(pin_root))? {
        let Some(pinned) = PinnedLink::find(pin_root, &interface)? else { continue };
        let Some(record) = confirm::read(&pinned.directory)?.filter(|record| record.state == PENDING) else {
            continue;
        };
        let live = instance::live(&pinned.directory, pinned.program.program_id)?;
        waiting.push((pinned, record, live));
    }
    Ok(waiting)
}

/// Restores what was before a change, or removes what is left of a change that is not in force. A kill at any moment leaves
/// one or the other to be done.
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
                // One who was killed may have pinned some of it, and the old instance would not open.
                earlier::remove(interface, new.counters.own.id())?;
                let old = open_old()?;
                if new.counters.own.id() != old.counters.own.id() {
                    earlier::keep_in_exchange(interface, &new)?;
                }
                old
            }
            // Damaged pins do not keep a change in force.
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
    // They count on, and are no earlier ones.
    earlier::remove(interface, old.counters.own.id())?;
    confirm::write(interface, &confirm::rejected(record))
}
