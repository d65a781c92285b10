//! Keeps interfaces guarded as the service is ordered: compares the state in force with the order, and restores parts
//! that differ. It blocks, and takes the lock of all guards for each change.

mod list_source;
mod names;
mod report;
mod target;
mod trials;

use std::collections::BTreeSet;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use self::names::Names;
use self::target::{Claims, Keeping, ListSource, State, Target, no_list, refusal_of, require_possible};
use self::trials::{is_among, is_waiting};
use crate::allowlist::{Allowlist, Origin, Sha256Sum, absolute};
use crate::control::client::Service;
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Access, Due, Guard, Lock, Patience, PinRoot, Trial};
use crate::interface::{self, Interface};
use crate::ops::change::replace_list;
use crate::ops::lists::load;
use crate::ops::owner::{owned, owner_of_name};
use crate::ops::{Console, Messages, deadlines, tell_holder, trial, unique};
use crate::service::ServiceOrder;
use crate::service::reloads::{Outcome, Reloads};

/// The longest wait of the service for another portguard. If it ends without the lock, the next check does the work.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// The most checks whether a link is gone: the kernel frees a link some time after the last reference to it is gone.
const RELEASE_ATTEMPTS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// The reason for a reload of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A user wants a reload, even if the list has not changed.
    Asked {
        /// Whether the list may lose all entries of an address family.
        allow_empty: bool,
        /// The trial, if the list must be confirmed: otherwise the previous list is restored.
        trial: Option<Trial>,
    },
    /// Its file may have changed.
    Changed,
    /// Names of interfaces have changed: the list is loaded again, even if it has not changed.
    Renamed,
}

/// The interfaces that the service must guard, and their state.
#[derive(Debug)]
pub(super) struct Reconciler {
    pin_root: PinRoot,
    order: ServiceOrder,
    targets: Vec<Target>,
    claims: Claims,
    /// The names that interfaces had when their lists were loaded.
    names: Names,
    /// The content of the file when it was last found broken, as a hash; the inner `None` if it could not be read.
    broken: Option<Option<Sha256Sum>>,
    reloads: Reloads,
    /// Whether the file may have changed while a change waited for its confirmation. It is read again when no change
    /// waits.
    deferred: bool,
    /// The error of the last check. The same error is reported once.
    failure: Option<String>,
    /// The errors of the last attempt to restore overdue changes. Attempts repeat, and the same errors are reported
    /// once.
    not_restored: Vec<String>,
    stop: Arc<AtomicBool>,
    console: Arc<dyn Console>,
}

impl Reconciler {
    /// Makes a reconciler, and changes no guard yet. `stop` ends waits for the lock.
    pub(super) fn new(
        interfaces: &[String],
        mut order: ServiceOrder,
        stop: Arc<AtomicBool>,
        console: Arc<dyn Console>,
    ) -> Result<Self> {
        guard::require_privileges()?;
        for name in interfaces {
            require_possible(name)?;
        }
        let targets = unique(interfaces).into_iter().cloned();
        let targets = targets.map(Target::new).collect();
        order.allowlist = absolute(&order.allowlist);
        let pin_root = PinRoot::make(|text| console.note(text))?;
        let (claims, reloads) = (Claims::new(), Reloads::new());
        Ok(Self {
            pin_root,
            order,
            targets,
            claims,
            names: Names::new(),
            broken: None,
            reloads,
            deferred: false,
            failure: None,
            not_restored: Vec::new(),
            stop,
            console,
        })
    }

    /// An empty collection of messages.
    fn messages(&self) -> Messages {
        Messages::new(Arc::clone(&self.console))
    }

    /// The directory of the pins of guards.
    pub(super) fn pin_root(&self) -> &PinRoot {
        &self.pin_root
    }

    /// The order of the service.
    pub(super) fn order(&self) -> &ServiceOrder {
        &self.order
    }

    /// The file of the list.
    pub(super) fn allowlist(&self) -> &Path {
        &self.order.allowlist
    }

    /// The names of the interfaces.
    pub(super) fn interfaces(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.name.clone()).collect()
    }

    /// The shared counters of the results of reloads.
    pub(super) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Guards each interface that exists. It continues after an error, and returns the last one; it reports the others.
    pub(super) fn start(&mut self) -> Result<()> {
        let mut messages = self.messages();
        let started = self.try_start(&mut messages);
        messages.log();
        started
    }

    fn try_start(&mut self, messages: &mut Messages) -> Result<()> {
        for target in &self.targets {
            // This includes a service that waits for the interface. If two services start at once, one of them
            // continues.
            if let Some(service) = owner_of_name(&target.name, messages)
                && (keeps(&service, &target.name) || service.description().pid < process::id())
            {
                return Err(owned(&target.name, "another service keeps the guard", &service));
            }
        }
        let source = self.list_source(messages);
        let console = Arc::clone(&self.console);
        // The wait has no limit: a service that gives up would leave its interfaces open.
        let _lock = self.lock_within(Duration::MAX, |holder| tell_holder(&*console, holder), messages)?;
        guard::sweep(&self.pin_root, &mut |event| messages.take_of_leftovers(event))?;
        let interfaces = interface::all()?;
        self.remember_names(&interfaces, matches!(source, ListSource::File(_)));
        let mut first = None;
        let mut targets: Vec<&mut Target> = self.targets.iter_mut().collect();
        interface::lowest_first(&mut targets, &interfaces, |target| &target.name);
        for target in targets {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&target.name))
            else {
                messages.warning(interface::waiting_for(&target.name, &interfaces));
                continue;
            };
            let (pin_root, order, claims) = (&self.pin_root, &self.order, &mut self.claims);
            let mut keeping = Keeping { pin_root, order, claims, source: &source, lifts: true, messages };
            match keeping.keep(interface, &target.name) {
                Ok(()) => target.state = keeping.kept(interface, None),
                Err(error) => {
                    if let Some(earlier) = first.replace(error) {
                        messages.error(earlier);
                    }
                }
            }
        }
        // A change that waits for its confirmation remains. The list of the file is put in force after it.
        self.deferred = self.is_any_waiting();
        match (first, source) {
            (Some(error), _) => Err(error),
            // No interface is guarded, and there is no list for interfaces that appear later.
            (None, ListSource::Broken { last_good: None, why }) if !self.keeps_any() => {
                Err(no_list(&why, "nothing to do"))
            }
            (None, ListSource::Broken { .. }) => Ok(()),
            (None, ListSource::File(list)) => {
                self.keep_last_good(&list, messages);
                Ok(())
            }
        }
    }

    /// Puts the list of the file in force. If the file is broken, the lists in force remain. `only` has the names of the
    /// interfaces to reload; all are reloaded if it is empty.
    pub(super) fn reload(&mut self, trigger: Trigger, only: &[String]) -> Messages {
        let mut messages = self.messages();
        let list = match load(&self.order.allowlist, &mut messages) {
            Ok(list) => list,
            Err(error) => {
                self.tell_broken(error, trigger, &mut messages);
                self.reloads.count(Outcome::Failed);
                return messages;
            }
        };
        if self.broken.take().is_some() {
            messages.note(format!("{} is valid again", self.order.allowlist.display()));
        }
        let outcome = self.put_in_force(&list, trigger, only, &mut messages).unwrap_or_else(|error| {
            messages.error(error);
            Outcome::Failed
        });
        self.reloads.count(outcome);
        // Interfaces that could not be guarded for lack of a list can be guarded now.
        if let Err(error) = self.try_reconcile(&mut messages) {
            messages.error(error);
        }
        messages
    }

    fn put_in_force(
        &mut self,
        list: &Allowlist,
        trigger: Trigger,
        only: &[String],
        messages: &mut Messages,
    ) -> Result<Outcome> {
        let _lock = self.lock(messages)?;
        let mut outcome = Outcome::Same;
        let (allow_empty, trial) = match trigger {
            Trigger::Asked { allow_empty, trial } => (allow_empty, trial),
            Trigger::Changed | Trigger::Renamed => (false, None),
        };
        let interfaces = interface::all()?;
        let (mut deferred, mut done) = (false, BTreeSet::new());
        for target in &self.targets {
            let State::Kept { ifindex, .. } = target.state else { continue };
            // Several targets may be names of the same interface.
            if !is_among(only, &interfaces, ifindex) || !done.insert(ifindex) {
                continue;
            }
            let replaced = Guard::by_name(Some(&self.pin_root), &target.name).and_then(|guard| {
                let same = guard.list().is_some_and(|it| {
                    it.sha256 == list.sha256() && it.origin == Origin::File && it.path == list.path()
                });
                if !matches!(trigger, Trigger::Asked { .. }) {
                    if is_waiting(&guard)? {
                        deferred = true;
                        return Ok(Outcome::Same);
                    }
                    if (same && trigger == Trigger::Changed) || guard.rejects(list.sha256())? {
                        return Ok(Outcome::Same);
                    }
                }
                let allow_empty = allow_empty || refusal_of(&guard, list).is_none();
                replace_list(guard, list, allow_empty, trial, messages).map(|()| Outcome::Done)
            });
            match replaced {
                Ok(done) => {
                    outcome = outcome.max(done);
                    let loaded = interfaces.iter().filter(|it| done == Outcome::Done && it.index == ifindex);
                    self.names.extend(loaded.map(|it| (ifindex, names::names(it))));
                }
                // The guard has gone in the meantime; a check follows.
                Err(error) if error.kind() == Kind::NotThere => {}
                Err(error) => {
                    messages.error(error);
                    outcome = Outcome::Failed;
                }
            }
        }
        if deferred && !self.deferred {
            messages.note(
                "the file has changed; the service reads it again when no change waits for its confirmation",
            );
        }
        self.deferred |= deferred;
        self.keep_last_good(list, messages);
        Ok(outcome)
    }

    /// Checks all interfaces: it guards those without a guard, and restores guards that differ from the order.
    pub(super) fn reconcile(&mut self) {
        let mut messages = self.messages();
        let failure = self.try_reconcile(&mut messages).err();
        messages.log();
        if self.deferred && !self.is_any_waiting() {
            self.deferred = false;
            self.reload(Trigger::Changed, &[]).log();
        }
        self.follow_names();
        let text = failure.as_ref().map(Error::to_string);
        if let Some(error) = failure
            && text != self.failure
            && !self.is_stopping()
        {
            self.console.error(error);
        }
        self.failure = text;
    }

    /// Checks only whether the guards are attached; if one is not, it calls [`Reconciler::reconcile`].
    pub(super) fn check(&mut self) {
        // Without a list of interfaces there is nothing to check. The next full check reports the error.
        let Ok(interfaces) = interface::all() else { return };
        let is_off = |target: &Target| {
            let State::Kept { ifindex, .. } = target.state else { return false };
            let interface = interfaces.iter().find(|interface| interface.index == ifindex);
            // Another event reports an interface that is gone.
            interface.is_some_and(|interface| matches!(guard::is_on(&self.pin_root, interface), Ok(false)))
        };
        if self.targets.iter().any(is_off) {
            self.reconcile();
        }
    }

    fn try_reconcile(&mut self, messages: &mut Messages) -> Result<()> {
        if self.next_deadline().is_some_and(|remaining| remaining.is_zero())
            || deadlines::are_off(&self.pin_root)
        {
            // Taking the lock restores overdue changes, and computes the deadlines of entries again.
            drop(self.lock(messages)?);
        }
        let interfaces = interface::all()?;
        self.remember_names(&interfaces, self.broken.is_none());
        let (mut work, mut gone) = (Vec::new(), false);
        for (number, target) in self.targets.iter_mut().enumerate() {
            let interface = interfaces.iter().find(|interface| interface.is_called(&target.name));
            match interface {
                None => {
                    if !matches!(target.state, State::Waiting) {
                        messages.note(format!(
                            "{}: the interface is gone, or has another name; waiting for it to come back",
                            target.name
                        ));
                        target.is_gone();
                        gone = true;
                    }
                }
                Some(interface) if target.is_in_order(&self.pin_root, &self.order, interface) => {}
                Some(interface) => work.push((number, interface)),
            }
        }
        if gone {
            // The interface may be in another namespace now, where others may change its guard.
            let kept = |kept: u32| {
                self.targets
                    .iter()
                    .any(|it| matches!(it.state, State::Kept { ifindex, .. } if ifindex == kept))
            };
            self.claims.retain(|ifindex, _| kept(*ifindex));
        }
        if work.is_empty() {
            return Ok(());
        }
        interface::lowest_first(&mut work, &interfaces, |(_, interface)| &interface.name);
        let mut released = Vec::with_capacity(work.len());
        for (number, interface) in work {
            released.push((number, self.release(number, interface, messages)));
        }
        let source = self.list_source(messages);
        let locked = self.lock(messages).and_then(|lock| {
            guard::sweep(&self.pin_root, &mut |event| messages.take_of_leftovers(event)).map(|()| lock)
        });
        let _lock = match locked {
            Ok(lock) => lock,
            Err(error) => {
                self.tell_open(released.iter().map(|(number, _)| *number), &error, messages);
                return Err(error);
            }
        };
        for (number, interface) in &released {
            if let Some(target) = self.targets.get_mut(*number) {
                let (pin_root, order, claims) = (&self.pin_root, &self.order, &mut self.claims);
                let mut keeping = Keeping { pin_root, order, claims, source: &source, lifts: true, messages };
                target.restore(&mut keeping, interface);
            }
        }
        if let ListSource::File(list) = source {
            self.keep_last_good(&list, messages);
        }
        Ok(())
    }

    /// Gives up the claim on a guard that was detached, and returns the current state of the interface. If the BPF file
    /// system was unmounted, only the claim keeps that file system, and with it a link that no process can reach any
    /// more.
    fn release(&mut self, number: usize, interface: &Interface, messages: &mut Messages) -> Interface {
        let mut interface = interface.clone();
        let Some(target) = self.targets.get_mut(number) else { return interface };
        let others = match &target.state {
            State::Kept { ifindex, others, .. } if *ifindex == interface.index => others.clone(),
            _ => return interface,
        };
        if !matches!(Guard::find(&self.pin_root, &interface), Ok(None)) {
            return interface;
        }
        messages.warning(format!("{}: the guard was taken off", target.name));
        target.state = State::Waiting;
        self.claims.remove(&interface.index);
        for _ in 0..RELEASE_ATTEMPTS {
            if guard::programs_on(&interface).iter().all(|id| others.contains(id)) {
                break;
            }
            thread::sleep(RELEASE_PAUSE);
            let fresh = interface::all().unwrap_or_default();
            interface = fresh.into_iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
        }
        interface
    }

    /// Reports interfaces that have no guard, and cannot get one now.
    fn tell_open(&mut self, numbers: impl IntoIterator<Item = usize>, why: &Error, messages: &mut Messages) {
        if self.is_stopping() {
            return;
        }
        for number in numbers {
            let Some(target) = self.targets.get_mut(number) else { continue };
            // An interface that only differs from its order has its guard.
            if matches!(target.state, State::Kept { .. } | State::NotOurs(_)) {
                continue;
            }
            if !matches!(target.state, State::Open(_)) {
                messages.warning(format!("{}: NOT GUARDED, port 111 is open", target.name));
            }
            target.state = State::Open(why.to_string());
        }
    }

    /// Takes the lock of all guards, restores overdue changes, and lets deadlines of entries follow the clock. It makes the directory or mounts the BPF file system
    /// if they were removed in the meantime.
    fn lock(&mut self, messages: &mut Messages) -> Result<Lock> {
        self.lock_within(LOCK_LIMIT, |_| {}, messages)
    }

    fn lock_within(
        &mut self,
        limit: Duration,
        waiting: impl FnOnce(Option<u32>),
        messages: &mut Messages,
    ) -> Result<Lock> {
        self.pin_root = PinRoot::make(|text| self.console.note(text))?;
        let stopped = || self.is_stopping();
        let lock = self.pin_root.lock(Access::Change, &Patience { limit, stopped: &stopped }, waiting)?;
        let mut restored = self.messages();
        trial::restore(&self.pin_root, Due::Overdue, &mut restored);
        let not_restored = restored.failures();
        // Attempts that fail with the same errors are reported once.
        if not_restored.is_empty() || not_restored != self.not_restored {
            messages.append(restored);
        }
        self.not_restored = not_restored;
        deadlines::set(&self.pin_root, messages);
        Ok(lock)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Whether a service keeps the interface with this name, and does not only wait for it.
fn keeps(service: &Service, name: &str) -> bool {
    let interface = interface::by_name(name).ok();
    let is_it = |kept: &str| kept == name || interface.as_ref().is_some_and(|it| it.is_called(kept));
    service.description().interfaces.iter().any(|kept| kept.ifindex.is_some() && is_it(&kept.name))
}
