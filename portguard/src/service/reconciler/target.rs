//! An interface that a service keeps guarded, and the operations for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::trials::is_waiting;
use crate::allowlist::Allowlist;
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Claim, Confirmation, Guard, PinRoot};
use crate::interface::{self, Interface};
use crate::ops::change::{Wanted, put_on};
use crate::ops::{Messages, trial};
use crate::printable::quoted;
use crate::service::ServiceOrder;
use crate::service::order::Differences;

/// The longest name that an interface can have (`ALTIFNAMSIZ`, with its NUL).
const NAME_LEN: usize = 128;

/// The claims on the guards that this service keeps, by the index of their interface: several targets may be names of
/// the same interface.
pub(super) type Claims = BTreeMap<u32, Claim>;

/// The context for guarding an interface. The owner of this value holds the lock.
pub(super) struct Keeping<'a> {
    pub(super) pin_root: &'a PinRoot,
    pub(super) order: &'a ServiceOrder,
    pub(super) claims: &'a mut Claims,
    pub(super) source: &'a ListSource,
    /// Whether guards on top of the interface may be detached for a moment.
    pub(super) lifts: bool,
    pub(super) messages: &'a mut Messages,
}

/// An interface to be guarded.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) state: State,
    /// When guards on top of it were last detached for a moment without a result.
    lifted_in_vain: Option<Instant>,
    /// When its guard was put in front of others at tcx, in the last hour.
    put_first: Vec<Instant>,
}

/// The time before guards on top of an interface may be detached again, after they were detached without a result. A
/// program on top of it in another network namespace may be gone by then.
const LIFT_AGAIN: Duration = Duration::from_secs(600);

/// How often in an hour a guard is put in front of the programs that others have put in front of it at tcx. Whoever keeps doing that keeps its
/// own program there, too.
const MOST_PUT_FIRST: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// The state of the interface.
#[derive(Debug)]
pub(super) enum State {
    /// The interface does not exist.
    Waiting,
    /// The interface has its guard, which this service keeps.
    Kept {
        ifindex: u32,
        /// The differences from the order that cannot be restored.
        differs: Option<String>,
        /// The programs of others that were on the interface then: if these change, the differences may be restored.
        others: Vec<u32>,
    },
    /// The interface exists, and cannot be guarded, for this reason.
    Open(String),
    /// The interface has a guard that this service cannot keep, for this reason: another service keeps it.
    NotOurs(String),
}

/// The list for guards.
pub(super) enum ListSource {
    /// The list of the file.
    File(Allowlist),
    /// The list of the file cannot be used. A guard keeps its list.
    Broken {
        /// The last good list, if there is one: for interfaces without a guard.
        last_good: Option<Allowlist>,
        /// Why the list of the file cannot be used.
        why: Unusable,
    },
}

/// Why the list of the file cannot be used.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) kind: Kind,
    /// In words.
    pub(super) text: String,
    pub(super) path: PathBuf,
}

impl Target {
    /// The interface with a name.
    pub(super) fn new(name: String) -> Self {
        Self { name, state: State::Waiting, lifted_in_vain: None, put_first: Vec::new() }
    }

    /// There is no such interface any more.
    pub(super) fn is_gone(&mut self) {
        self.state = State::Waiting;
        self.put_first.clear();
    }

    /// Whether its guard may be put in front of others at tcx now.
    fn may_put_first(&mut self) -> bool {
        self.put_first.retain(|at| at.elapsed() < HOUR);
        self.put_first.len() < MOST_PUT_FIRST
    }

    /// Whether there is nothing to do: the guard is attached, this service keeps it, and it is as ordered, or differs
    /// only in parts that could not be restored before.
    pub(super) fn is_in_order(
        &mut self,
        pin_root: &PinRoot,
        order: &ServiceOrder,
        interface: &Interface,
    ) -> bool {
        let may_put_first = self.may_put_first();
        let State::Kept { ifindex, differs, others } = &mut self.state else { return false };
        if *ifindex != interface.index {
            return false;
        }
        let guard = match Guard::find(pin_root, interface) {
            // A change that waits for its confirmation remains.
            Ok(Some(guard)) if is_waiting(&guard).unwrap_or(true) => return true,
            guard => guard,
        };
        // Its pins may be damaged; the guard may be attached or not.
        let Ok(Some(guard)) = guard else { return false };
        let Ok(differences) = order.differences(&guard) else { return false };
        let Some(text) = differences.text() else {
            *differs = None;
            return true;
        };
        let can_be_restored =
            *others != others_on(interface, &guard) || (differences.is_behind && may_put_first);
        differs.as_deref() == Some(&text) && !can_be_restored
    }

    /// Guards the interface as ordered.
    pub(super) fn restore(&mut self, keeping: &mut Keeping<'_>, interface: &Interface) {
        let ifindex = interface.index;
        let (was_kept, told) = match std::mem::replace(&mut self.state, State::Waiting) {
            State::Kept { ifindex: before, differs, .. } if before == ifindex => (true, differs),
            State::Open(why) | State::NotOurs(why) => (false, Some(why)),
            State::Kept { .. } | State::Waiting => (false, None),
        };
        let differences = keeping.differences(interface);
        if was_kept && differences.is_position_only() && !self.may_put_first() {
            let text = differences.text();
            if text != told {
                keeping.messages.warning(format!(
                    "{}: programs are put in front of the guard again and again; it stays behind them for now",
                    self.name
                ));
            }
            self.state = keeping.kept(interface, None);
            return;
        }
        if differences.is_behind {
            self.put_first.push(Instant::now());
        }
        if was_kept
            && told.is_none()
            && let Some(differences) = differences.text()
        {
            let text = format!("{}: not as ordered, and restored: {differences}", self.name);
            keeping.messages.warning(text);
        }
        keeping.lifts = self.lifted_in_vain.is_none_or(|at| at.elapsed() > LIFT_AGAIN);
        let kept = keeping.keep(interface, &self.name);
        match &kept {
            Ok(()) => self.lifted_in_vain = None,
            Err(error) if keeping.lifts && error.kind() == Kind::LiftedInVain => {
                self.lifted_in_vain = Some(Instant::now());
            }
            Err(_) => {}
        }
        self.state = match kept {
            Ok(()) => keeping.kept(interface, None),
            // The interface has gone again.
            Err(error) if error.kind() == Kind::NotThere => State::Waiting,
            Err(error) => self.not_restored(keeping, interface, error, told.as_deref()),
        };
    }

    /// The state after a failure. A guard that cannot be made as ordered is better than none.
    fn not_restored(
        &self,
        keeping: &mut Keeping<'_>,
        interface: &Interface,
        error: Error,
        told: Option<&str>,
    ) -> State {
        let text = error.to_string();
        let is_new = told != Some(text.as_str());
        if is_new {
            keeping.messages.error(error);
        }
        if let Ok(true) = guard::is_on(keeping.pin_root, interface) {
            if keeping.claim(interface).is_err() {
                if is_new {
                    let text = format!("{}: the existing guard remains as it is", self.name);
                    keeping.messages.warning(text);
                }
                return State::NotOurs(text);
            }
            let restored = keeping.guard_at_its_hook(interface, &self.name);
            if is_new {
                let what = if restored {
                    "keeps its hook and its mode; everything else is as ordered"
                } else {
                    "remains as it is"
                };
                keeping.messages.warning(format!("{}: the existing guard {what}", self.name));
            }
            return keeping.kept(interface, Some(text));
        }
        if is_new {
            keeping.messages.warning(format!("{}: NOT GUARDED, port 111 is open", self.name));
        }
        State::Open(text)
    }
}

impl Keeping<'_> {
    /// Guards an interface as ordered, and keeps the guard. `name` is its name on the command line of the service.
    pub(super) fn keep(&mut self, interface: &Interface, name: &str) -> Result<()> {
        if guard::is_on(self.pin_root, interface)? {
            // The claim comes before any change: another service may keep the guard.
            self.claim(interface)?;
            return self.guard(interface, name);
        }
        // An older claim of this service would be on the directory of a guard that is gone.
        self.claims.remove(&interface.index);
        self.guard(interface, name)?;
        self.claim(interface)
    }

    /// Claims the guard that is on an interface, unless this service has the claim already.
    fn claim(&mut self, interface: &Interface) -> Result<()> {
        if let Some(claim) = self.claims.get(&interface.index)
            && guard::holds(self.pin_root, interface, claim)?
        {
            return Ok(());
        }
        self.claims.insert(interface.index, guard::claim(self.pin_root, interface)?);
        Ok(())
    }

    /// Puts a guard on an interface, or renews its guard, as ordered.
    fn guard(&mut self, interface: &Interface, name: &str) -> Result<()> {
        if let Some(guard) = Guard::find(self.pin_root, interface)?
            && let Some(confirmation) = guard.confirmation()?.filter(Confirmation::is_in_force)
        {
            if !confirmation.is_first {
                let waits = trial::summary(&confirmation);
                self.messages.note(format!("{name}: {waits}; the guard does not change until then"));
                return Ok(());
            }
            // The service is ordered to keep a guard on the interface, so this guard must not be detached again.
            guard.confirm()?;
            self.messages.note(format!("{name}: the guard was on trial; this service keeps it on"));
        }
        match self.source {
            ListSource::File(list) => {
                let refused =
                    Guard::find(self.pin_root, interface)?.and_then(|guard| refusal_of(&guard, list));
                let wanted = refused.is_none().then_some(list);
                let wanted = trial::unless_rejected(self.pin_root, interface, name, wanted, self.messages)?;
                self.put_on(interface, name, wanted)?;
                if let Some(error) = refused {
                    self.messages.error(error);
                }
            }
            ListSource::Broken { last_good, why } => {
                if self.put_on(interface, name, None)? {
                    let text = format!("{name}: THE ALLOWLIST IS BROKEN; the list in force remains");
                    self.messages.warning(text);
                } else if let Some(list) = last_good {
                    self.put_on(interface, name, Some(list))?;
                    self.messages.warning(format!(
                        "{name}: THE ALLOWLIST IS BROKEN; guarded with the last list that was in force"
                    ));
                } else {
                    return Err(no_list(why, name));
                }
            }
        }
        Ok(())
    }

    fn put_on(&mut self, interface: &Interface, name: &str, list: Option<&Allowlist>) -> Result<bool> {
        // A list that must not be empty was refused before.
        let wanted =
            Wanted { list, named: self.order.named(), allow_empty: true, trial: None, lifts: self.lifts };
        put_on(self.pin_root, interface, name, wanted, self.messages)
    }

    /// Restores all parts of the order except hook and mode, if these prevent the whole order. A guard keeps them as
    /// long as it is attached, and it could remain in audit mode otherwise. Returns true if other parts differed and
    /// are restored.
    fn guard_at_its_hook(&mut self, interface: &Interface, name: &str) -> bool {
        let order = ServiceOrder { hook: None, ..self.order.clone() };
        let differs = |pin_root: &PinRoot| {
            let guard = Guard::find(pin_root, interface).ok().flatten();
            guard.is_some_and(|guard| order.differences(&guard).is_ok_and(|it| it.text().is_some()))
        };
        if self.order.hook.is_none() || !differs(self.pin_root) {
            return false;
        }
        let mut rest = Keeping {
            pin_root: self.pin_root,
            claims: &mut *self.claims,
            order: &order,
            source: self.source,
            lifts: self.lifts,
            messages: &mut *self.messages,
        };
        rest.guard(interface, name).is_ok()
    }

    /// The state of an interface that has its guard; `failure` is why that is not as ordered, if it is not known what differs.
    pub(super) fn kept(&self, interface: &Interface, failure: Option<String>) -> State {
        let fresh = interface::all().unwrap_or_default().into_iter().find(|it| it.index == interface.index);
        let interface = fresh.as_ref().unwrap_or(interface);
        let guard = Guard::find(self.pin_root, interface).ok().flatten();
        State::Kept {
            ifindex: interface.index,
            differs: self.differences(interface).text().or(failure),
            others: guard.map(|guard| others_on(interface, &guard)).unwrap_or_default(),
        }
    }

    /// The parts of the order that are not in force. There are none while a change waits for its confirmation, because
    /// nothing is restored until then.
    fn differences(&self, interface: &Interface) -> Differences {
        let guard = Guard::find(self.pin_root, interface).ok().flatten();
        let settled = guard.filter(|guard| is_waiting(guard).is_ok_and(|waits| !waits));
        settled.and_then(|guard| self.order.differences(&guard).ok()).unwrap_or_default()
    }
}

/// The programs of others on the interface of a guard, at either hook.
fn others_on(interface: &Interface, guard: &Guard) -> Vec<u32> {
    let mut programs = guard::programs_on(interface);
    programs.retain(|id| *id != guard.program().id);
    programs
}

/// The error if the list of the service must not replace the list of a guard: a list that loses all entries of a family
/// takes `--allow-empty`. A guard with a list from another file gets the list of the service anyway, because a list
/// that allows every source could remain otherwise. This does not apply if the list of the service is empty, like the
/// one in the package.
pub(super) fn refusal_of(guard: &Guard, list: &Allowlist) -> Option<Error> {
    let is_own = guard.list().is_some_and(|in_force| in_force.path == list.path());
    let error = guard.require_replaceable(list, false).err()?;
    (is_own || list.entries().is_empty()).then_some(error)
}

pub(super) fn no_list(why: &Unusable, subject: &str) -> Error {
    let Unusable { kind, text, path } = why;
    Error::new(*kind, format!("{subject}: there is no list to guard with"))
        .because(format!("{text}, and no copy of an earlier list was kept"))
        .remedy(format!("See what to do with: portguard check {}", quoted(&path.to_string_lossy())))
}

/// Fails for names that no interface can ever have: a wait for them would never end.
pub(super) fn require_possible(name: &str) -> Result<()> {
    let bytes = interface::name_bytes(name);
    let possible = !bytes.is_empty()
        && bytes.len() < NAME_LEN
        && !matches!(&*bytes, b"." | b"..")
        && !bytes.iter().any(|byte| matches!(byte, 0 | b'/' | b':' | b'\x0b') || byte.is_ascii_whitespace());
    if possible {
        return Ok(());
    }
    Err(Error::new(Kind::NotThere, format!("{name:?}: no interface can have this name")))
}
