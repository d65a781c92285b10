//! Keeps interfaces guarded as the service was ordered to: compares what is in force with the order, and restores what
//! differs. It blocks, and takes the lock of all guards for each change.

mod trials;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use self::trials::{is_among, is_waiting};
use crate::allowlist::{Allowlist, Origin, Sha256Sum};
use crate::control::{Description, Kept, OrderDescription};
use crate::error::{Error, Kind, Result};
use crate::guard::{
    self, Access, Claim, Confirmation, Due, Guard, Home, Lock, LogLimit, Named, Patience, Trial,
};
use crate::interface::{self, Interface};
use crate::ops::change::{Wanted, put_on, replace_list};
use crate::ops::keeper::{keeper_of_name, owned};
use crate::ops::lists::{keep_last_good, load};
use crate::ops::{Messages, trial, unique};
use crate::service::reloads::{Outcome, Reloads};
use crate::{cli, last_good, output};

/// The longest name that an interface can have (`ALTIFNAMSIZ`, with its NUL).
const NAME_LEN: usize = 128;
/// How long the service waits for another portguard. What it could not do then, the next look does.
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// The kernel takes its time to free a link that nobody refers to any more.
const RELEASE_ATTEMPTS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// What a service is ordered to do with the interfaces that it keeps.
#[derive(Debug, Clone)]
pub struct ServiceOrder {
    /// The file of the list.
    pub allowlist: PathBuf,
    /// How the kernel runs the guards; either way if absent.
    pub mode: Option<cli::ModeChoice>,
    /// Whether the guards only count what they would drop.
    pub audit: bool,
    /// How many sources each CPU remembers; whatever a guard that is there has if absent.
    pub sources: Option<u32>,
    /// How many drops may be logged.
    pub log: LogLimit,
}

impl ServiceOrder {
    fn named(&self) -> Named {
        let &Self { allowlist: _, mode, audit, sources, log } = self;
        Named { mode, audit: Some(audit), sources, log: Some(log) }
    }

    /// What a guard does otherwise than ordered, a line for each part: `audit -> enforcing`.
    pub(super) fn differences(&self, guard: &Guard) -> Result<Vec<String>> {
        Ok(guard.order()?.differences_from(&self.allowlist, self.named()))
    }
}

/// Why the list is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Somebody wants it reloaded, whether it has changed or not.
    Asked {
        /// Also if it has lost all entries of an address family.
        allow_empty: bool,
        /// How long it waits for a confirmation, without which the list of before comes back.
        trial: Option<Trial>,
    },
    /// Its file may have changed.
    Changed,
}

/// The interfaces to be guarded, and how.
#[derive(Debug)]
pub(super) struct Reconciler {
    home: Home,
    order: ServiceOrder,
    targets: Vec<Target>,
    claims: Claims,
    /// The hash of what the file held when it was last found broken; nothing if it could not even be read.
    broken: Option<Option<Sha256Sum>>,
    reloads: Reloads,
    /// The file may have changed while a change waited for its confirmation: it is looked at again when none does.
    deferred: bool,
    /// Why the last look failed. It is told once.
    failure: Option<String>,
    stop: Arc<AtomicBool>,
}

/// The guards that this service keeps, by the index of their interface: targets may be names of one and the same.
type Claims = BTreeMap<u32, Claim>;

/// What it takes to guard an interface. Whoever has one holds the lock.
struct Keeping<'a> {
    home: &'a Home,
    order: &'a ServiceOrder,
    claims: &'a mut Claims,
    source: &'a ListSource,
    messages: &'a mut Messages,
}

/// An interface to be guarded.
#[derive(Debug)]
struct Target {
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is no such interface.
    Waiting,
    /// There is, and it has its guard, which this service keeps. It does otherwise than ordered where that cannot be
    /// restored.
    Kept { ifindex: u32, differs: Option<String> },
    /// There is, and it cannot be guarded, for this reason.
    Open(String),
    /// There is, with a guard that cannot be kept, for this reason: another service keeps it.
    NotOurs(String),
}

/// What there is to guard with.
enum ListSource {
    /// What the file holds.
    File(Allowlist),
    /// The file is broken. The copy of what it last held in good order is for interfaces without a guard; where there
    /// is a guard, its list stays.
    Broken(Option<Allowlist>, Kind),
}

impl Reconciler {
    /// Changes nothing yet. `stop` ends waits for the lock.
    pub(super) fn new(interfaces: &[String], mut order: ServiceOrder, stop: Arc<AtomicBool>) -> Result<Self> {
        guard::require_privileges()?;
        for name in interfaces {
            require_possible(name)?;
        }
        let targets = unique(interfaces).into_iter().cloned();
        let targets = targets.map(|name| Target { name, state: State::Waiting }).collect();
        // Fails for an empty path only, which cannot be read.
        order.allowlist = std::path::absolute(&order.allowlist).unwrap_or(order.allowlist);
        let home = Home::make(output::error::note)?;
        let (claims, reloads) = (Claims::new(), Reloads::new());
        Ok(Self { home, order, targets, claims, broken: None, reloads, deferred: false, failure: None, stop })
    }

    /// Where the guards are pinned.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// What the service is ordered to do.
    pub(super) fn order(&self) -> &ServiceOrder {
        &self.order
    }

    /// The file.
    pub(super) fn allowlist(&self) -> &Path {
        &self.order.allowlist
    }

    /// The names of the interfaces.
    pub(super) fn interfaces(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.name.clone()).collect()
    }

    /// How reloads went, now and later.
    pub(super) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Guards every interface that is there; goes on after an error, and returns the first.
    pub(super) fn start(&mut self) -> Result<()> {
        let mut messages = Messages::new();
        let started = self.try_start(&mut messages);
        messages.log();
        started
    }

    fn try_start(&mut self, messages: &mut Messages) -> Result<()> {
        for target in &self.targets {
            // Also one that waits for the interface.
            if let Some(service) = keeper_of_name(&target.name) {
                return Err(owned(&target.name, "another service keeps the guard", &service));
            }
        }
        let source = self.list_source(messages);
        let _lock = self.lock(messages)?;
        guard::sweep(&self.home, &mut |event| messages.take_of_leftovers(event))?;
        let interfaces = interface::all()?;
        let mut first = None;
        for target in &mut self.targets {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&target.name))
            else {
                messages.note(format!("{}: no such interface yet; waiting for it", target.name));
                continue;
            };
            let (home, order, claims) = (&self.home, &self.order, &mut self.claims);
            let mut keeping = Keeping { home, order, claims, source: &source, messages };
            match keeping.keep(interface, &target.name) {
                Ok(()) => {
                    let differs = keeping.still_differs(interface);
                    target.state = State::Kept { ifindex: interface.index, differs };
                }
                Err(error) => {
                    if let Some(earlier) = first.replace(error) {
                        messages.error(earlier);
                    }
                }
            }
        }
        match (first, source) {
            (Some(error), _) => Err(error),
            // Nothing is guarded, and there is nothing to guard with when an interface comes.
            (None, ListSource::Broken(None, kind)) if !self.keeps_any() => {
                Err(no_list(kind, "nothing to do"))
            }
            (None, ListSource::Broken(..)) => Ok(()),
            (None, ListSource::File(list)) => {
                self.keep_last_good(&list, messages);
                Ok(())
            }
        }
    }

    /// Puts what the file holds in force; if it is broken, the lists in force stay.
    /// `only` has the names of the interfaces to reload; all if it is empty.
    pub(super) fn reload(&mut self, trigger: Trigger, only: &[String]) -> Messages {
        let mut messages = Messages::new();
        let list = match load(&self.order.allowlist, &mut messages) {
            Ok(list) => list,
            Err(error) => {
                self.tell_broken(error, trigger, &mut messages);
                self.reloads.count(Outcome::Failed);
                return messages;
            }
        };
        if self.broken.take().is_some() {
            messages.note(format!("{} is in order again", self.order.allowlist.display()));
        }
        let outcome = self.put_in_force(&list, trigger, only, &mut messages).unwrap_or_else(|error| {
            messages.error(error);
            Outcome::Failed
        });
        self.reloads.count(outcome);
        // Those that could not be guarded for want of a list can be now.
        if let Err(error) = self.try_look(&mut messages) {
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
            Trigger::Changed => (false, None),
        };
        let interfaces = interface::all()?;
        let (mut deferred, mut done) = (false, BTreeSet::new());
        for target in &self.targets {
            let State::Kept { ifindex, .. } = target.state else { continue };
            // Targets may be names of one and the same.
            if !is_among(only, &interfaces, ifindex) || !done.insert(ifindex) {
                continue;
            }
            let replaced = Guard::by_name(Some(&self.home), &target.name).and_then(|guard| {
                let same = guard.list().is_some_and(|it| {
                    it.sha256 == list.sha256() && it.origin == Origin::File && it.path == list.path()
                });
                if trigger == Trigger::Changed {
                    if is_waiting(&guard)? {
                        deferred = true;
                        return Ok(Outcome::Same);
                    }
                    if same || guard.rejects(list.sha256())? {
                        return Ok(Outcome::Same);
                    }
                }
                let allow_empty = allow_empty || refusal_of(&guard, list).is_none();
                replace_list(guard, list, allow_empty, trial, messages).map(|()| Outcome::Done)
            });
            match replaced {
                Ok(done) => outcome = outcome.max(done),
                // It has gone meanwhile; a look follows.
                Err(error) if error.kind() == Kind::NotThere => {}
                Err(error) => {
                    messages.error(error);
                    outcome = Outcome::Failed;
                }
            }
        }
        if deferred && !self.deferred {
            messages
                .note("the file has changed, and is read again when no change waits for its confirmation");
        }
        self.deferred |= deferred;
        self.keep_last_good(list, messages);
        Ok(outcome)
    }

    /// Keeps a copy of a list that is in force, and not on trial.
    fn keep_last_good(&self, list: &Allowlist, messages: &mut Messages) {
        let has_it = |guard: &Guard| {
            guard.list().is_some_and(|it| it.sha256 == list.sha256()) && is_waiting(guard).is_ok_and(|it| !it)
        };
        let mut kept = self.targets.iter().filter(|target| matches!(target.state, State::Kept { .. }));
        if kept.any(|target| Guard::by_name(Some(&self.home), &target.name).is_ok_and(|it| has_it(&it))) {
            keep_last_good(list, messages);
        }
    }

    /// Guards what is not guarded, and restores what does otherwise than ordered.
    pub(super) fn look(&mut self) {
        let mut messages = Messages::new();
        let failure = self.try_look(&mut messages).err();
        messages.log();
        if self.deferred && !self.is_any_waiting() {
            self.deferred = false;
            self.reload(Trigger::Changed, &[]).log();
        }
        let text = failure.as_ref().map(Error::to_string);
        if let Some(error) = failure
            && text != self.failure
            && !self.is_stopping()
        {
            output::error::print(&error);
        }
        self.failure = text;
    }

    /// Looks, if a guard is not on any more.
    pub(super) fn check(&mut self) {
        // Without a list of interfaces nothing is known; the next look tells why there is none.
        let Ok(interfaces) = interface::all() else { return };
        let is_off = |target: &Target| {
            let State::Kept { ifindex, .. } = target.state else { return false };
            let interface = interfaces.iter().find(|interface| interface.index == ifindex);
            // One that is gone is another event's matter.
            interface.is_some_and(|interface| matches!(guard::is_on(&self.home, interface), Ok(false)))
        };
        if self.targets.iter().any(is_off) {
            self.look();
        }
    }

    fn try_look(&mut self, messages: &mut Messages) -> Result<()> {
        if self.next_deadline().is_some_and(|remaining| remaining.is_zero()) {
            // Who takes the lock restores what is overdue.
            drop(self.lock(messages)?);
        }
        let interfaces = interface::all()?;
        let mut work = Vec::new();
        for (number, target) in self.targets.iter_mut().enumerate() {
            let interface = interfaces.iter().find(|interface| interface.is_called(&target.name));
            match interface {
                None => {
                    if !matches!(target.state, State::Waiting) {
                        messages.note(format!(
                            "{}: the interface is gone, or has another name; waiting for it to come back",
                            target.name
                        ));
                        target.state = State::Waiting;
                    }
                }
                Some(interface) if target.is_in_order(&self.home, &self.order, interface) => {}
                Some(interface) => work.push((number, interface)),
            }
        }
        if work.is_empty() {
            return Ok(());
        }
        let mut released = Vec::with_capacity(work.len());
        for (number, interface) in work {
            released.push((number, self.release(number, interface, messages)));
        }
        let source = self.list_source(messages);
        let locked = self.lock(messages).and_then(|lock| {
            guard::sweep(&self.home, &mut |event| messages.take_of_leftovers(event)).map(|()| lock)
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
                let (home, order, claims) = (&self.home, &self.order, &mut self.claims);
                let mut keeping = Keeping { home, order, claims, source: &source, messages };
                target.restore(&mut keeping, interface);
            }
        }
        if let ListSource::File(list) = source {
            self.keep_last_good(&list, messages);
        }
        Ok(())
    }

    /// Gives up the claim on a guard that was taken off; returns the interface as it is then. If the BPF file system was
    /// unmounted, the claim is what keeps it, and with it the link that nobody can reach any more.
    fn release(&mut self, number: usize, interface: &Interface, messages: &mut Messages) -> Interface {
        let mut interface = interface.clone();
        let Some(target) = self.targets.get_mut(number) else { return interface };
        let was_kept = matches!(target.state, State::Kept { ifindex, .. } if ifindex == interface.index);
        if !was_kept || !matches!(Guard::find(&self.home, &interface), Ok(None)) {
            return interface;
        }
        messages.warning(format!("{}: the guard was taken off", target.name));
        target.state = State::Waiting;
        self.claims.remove(&interface.index);
        for _ in 0..RELEASE_ATTEMPTS {
            if interface.xdp.is_empty() {
                break;
            }
            thread::sleep(RELEASE_PAUSE);
            let fresh = interface::all().unwrap_or_default();
            interface = fresh.into_iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
        }
        interface
    }

    /// Interfaces have no guard, and cannot have one now.
    fn tell_open(&mut self, numbers: impl IntoIterator<Item = usize>, why: &Error, messages: &mut Messages) {
        if self.is_stopping() {
            return;
        }
        for number in numbers {
            let Some(target) = self.targets.get_mut(number) else { continue };
            // One that only differs from the order has its guard all the same.
            if matches!(target.state, State::Kept { .. } | State::NotOurs(_)) {
                continue;
            }
            if !matches!(target.state, State::Open(_)) {
                messages.warning(format!("{}: NOT GUARDED, port 111 is open", target.name));
            }
            target.state = State::Open(why.to_string());
        }
    }

    /// Waits for the lock of all guards, and restores what is overdue. The directory, or the BPF file system, may have been taken away meanwhile.
    fn lock(&mut self, messages: &mut Messages) -> Result<Lock> {
        self.home = Home::make(output::error::note)?;
        let stopped = || self.is_stopping();
        let lock =
            self.home.lock(Access::Change, &Patience { limit: LOCK_LIMIT, stopped: &stopped }, |_| {})?;
        trial::restore(&self.home, Due::Overdue, messages);
        Ok(lock)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What there is to guard with now.
    fn list_source(&mut self, messages: &mut Messages) -> ListSource {
        let error = match load(&self.order.allowlist, messages) {
            Ok(list) => {
                self.broken = None;
                return ListSource::File(list);
            }
            Err(error) => error,
        };
        let kind = error.kind();
        self.tell_broken(error, Trigger::Changed, messages);
        self.reloads.found_broken();
        let last_good = last_good::of(&self.order.allowlist).unwrap_or_else(|unusable| {
            messages.error(unusable);
            None
        });
        ListSource::Broken(last_good, kind)
    }

    /// Tells what is wrong with the file: once, unless somebody asks.
    fn tell_broken(&mut self, error: Error, trigger: Trigger, messages: &mut Messages) {
        let found = error.allowlist().and_then(|invalid| invalid.sha256);
        if trigger != Trigger::Changed || self.broken != Some(found) {
            messages.error(error);
            // At the start, each interface with a list in force is told of by itself.
            if self.keeps_any() {
                messages.warning(format!(
                    "{} is broken: the lists in force stay",
                    self.order.allowlist.display()
                ));
            }
        }
        self.broken = Some(found);
    }

    fn keeps_any(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.state, State::Kept { .. }))
    }

    /// What commands are told of the service.
    pub(super) fn description(&self) -> Result<Description> {
        let &ServiceOrder { ref allowlist, mode, audit, sources, log } = &self.order;
        let order = OrderDescription {
            allowlist: allowlist.clone(),
            mode: mode.map(|mode| mode.word().to_owned()),
            audit,
            sources,
            log_rate: match log {
                LogLimit::Off => None,
                LogLimit::PerSecond(lines) => Some(lines),
            },
        };
        let kept = |target: &Target| {
            let (ifindex, state) = match &target.state {
                State::Waiting => (None, "waiting for the interface"),
                State::Kept { ifindex, differs: None } => (Some(*ifindex), "as ordered"),
                State::Kept { ifindex, differs: Some(_) } => (Some(*ifindex), "not as ordered"),
                State::Open(_) => (None, "not guarded"),
                State::NotOurs(_) => (None, "kept by another service"),
            };
            let why = match &target.state {
                State::Open(why) => Some(why.clone()),
                State::Waiting | State::Kept { .. } | State::NotOurs(_) => None,
            };
            Kept { name: target.name.clone(), ifindex, state: state.to_owned(), open: why.is_some(), why }
        };
        Description::of_this_process(order, self.targets.iter().map(kept).collect())
    }

    /// One line about all interfaces.
    pub(super) fn summary(&self) -> String {
        let line = |target: &Target| {
            let name = &target.name;
            match &target.state {
                State::Waiting => format!("{name}: waiting for the interface"),
                State::Open(why) => format!("{name}: NOT GUARDED: {why}"),
                State::NotOurs(why) => why.clone(),
                State::Kept { differs: Some(differs), .. } => format!("{name}: NOT AS ORDERED: {differs}"),
                State::Kept { .. } => match describe(&self.home, name) {
                    Ok(text) => format!("{name}: {text}"),
                    Err(error) => error.to_string(),
                },
            }
        };
        let mut lines: Vec<String> = self.targets.iter().map(line).collect();
        if self.broken.is_some() {
            lines.push(format!("{} is BROKEN, the lists in force stay", self.order.allowlist.display()));
        }
        lines.join("; ")
    }

    /// What is told at the end: which interfaces have their guards now.
    pub(super) fn farewell(&self) -> String {
        let interfaces = match interface::all() {
            Ok(interfaces) => interfaces,
            Err(error) => return format!("stopped; whether the guards are on is not known: {error}"),
        };
        let (mut guarded, mut open) = (0, Vec::new());
        for target in &self.targets {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&target.name))
            else {
                continue;
            };
            match guard::is_on(&self.home, interface) {
                Ok(true) => guarded += 1,
                Ok(false) => open.push(target.name.clone()),
                Err(error) => open.push(format!("{} ({error})", target.name)),
            }
        }
        match (guarded, &open[..]) {
            (0, []) => "stopped".to_owned(),
            (_, []) => "stopped; the guards stay on (portguard detach takes them off)".to_owned(),
            (0, open) => format!("stopped; NOT GUARDED, port 111 is open: {}", open.join(", ")),
            (_, open) => format!(
                "stopped; NOT GUARDED, port 111 is open: {}; the other guards stay on (portguard detach takes them off)",
                open.join(", ")
            ),
        }
    }
}

impl Target {
    /// Whether there is nothing to do: the guard is on, kept by this service, and does what is ordered; or what differs is
    /// what could not be restored before.
    fn is_in_order(&mut self, home: &Home, order: &ServiceOrder, interface: &Interface) -> bool {
        let State::Kept { ifindex, differs } = &mut self.state else { return false };
        if *ifindex != interface.index {
            return false;
        }
        let guard = match Guard::find(home, interface) {
            // What waits for its confirmation is left alone.
            Ok(Some(guard)) if is_waiting(&guard).unwrap_or(true) => return true,
            guard => guard,
        };
        match guard.map(|guard| guard.map(|guard| order.differences(&guard))) {
            Ok(Some(Ok(differences))) if differences.is_empty() => {
                *differs = None;
                true
            }
            Ok(Some(Ok(differences))) => differs.as_ref() == Some(&differences.join(", ")),
            // Its pins may be damaged: it is on all the same, or it is not.
            Ok(Some(Err(_)) | None) | Err(_) => false,
        }
    }

    /// Guards the interface as ordered.
    fn restore(&mut self, keeping: &mut Keeping<'_>, interface: &Interface) {
        let ifindex = interface.index;
        let (was_kept, told) = match std::mem::replace(&mut self.state, State::Waiting) {
            State::Kept { ifindex: before, differs } if before == ifindex => (true, differs),
            State::Open(why) | State::NotOurs(why) => (false, Some(why)),
            State::Kept { .. } | State::Waiting => (false, None),
        };
        if was_kept
            && told.is_none()
            && let Some(differences) = keeping.still_differs(interface)
        {
            let text = format!("{}: not as ordered, and restored: {differences}", self.name);
            keeping.messages.warning(text);
        }
        self.state = match keeping.keep(interface, &self.name) {
            Ok(()) => State::Kept { ifindex, differs: keeping.still_differs(interface) },
            // It has gone again.
            Err(error) if error.kind() == Kind::NotThere => State::Waiting,
            Err(error) => self.not_restored(keeping, interface, error, told.as_deref()),
        };
    }

    /// One that cannot be made what it should be is better than none.
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
        if let Ok(true) = guard::is_on(keeping.home, interface) {
            if keeping.claim(interface).is_err() {
                if is_new {
                    let text = format!("{}: the guard that is there stays as it is", self.name);
                    keeping.messages.warning(text);
                }
                return State::NotOurs(text);
            }
            let restored = keeping.guard_in_its_mode(interface, &self.name);
            if is_new {
                let what =
                    if restored { "keeps its mode, and does the rest as ordered" } else { "stays as it is" };
                keeping.messages.warning(format!("{}: the guard that is there {what}", self.name));
            }
            let differs = keeping.still_differs(interface).or(Some(text));
            return State::Kept { ifindex: interface.index, differs };
        }
        if is_new {
            keeping.messages.warning(format!("{}: NOT GUARDED, port 111 is open", self.name));
        }
        State::Open(text)
    }
}

impl Keeping<'_> {
    /// Guards an interface as ordered, and keeps the guard. `name` is what the service was told to call it.
    fn keep(&mut self, interface: &Interface, name: &str) -> Result<()> {
        if guard::is_on(self.home, interface)? {
            // Before anything is changed: another service may keep it.
            self.claim(interface)?;
            return self.guard(interface, name);
        }
        // A claim of this service would be on the directory of the guard that is gone.
        self.claims.remove(&interface.index);
        self.guard(interface, name)?;
        self.claim(interface)
    }

    /// Claims the guard that is on an interface, unless this service has done so.
    fn claim(&mut self, interface: &Interface) -> Result<()> {
        if let Some(claim) = self.claims.get(&interface.index)
            && guard::holds(self.home, interface, claim)?
        {
            return Ok(());
        }
        self.claims.insert(interface.index, guard::claim(self.home, interface)?);
        Ok(())
    }

    /// Puts a guard on an interface, or renews the one that is there, as ordered.
    fn guard(&mut self, interface: &Interface, name: &str) -> Result<()> {
        if let Some(guard) = Guard::find(self.home, interface)?
            && let Some(confirmation) = guard.confirmation()?.filter(Confirmation::is_in_force)
        {
            let waits = trial::summary(&confirmation);
            self.messages.note(format!("{name}: {waits}; the guard is as it is until then"));
            return Ok(());
        }
        match self.source {
            ListSource::File(list) => {
                let refused = Guard::find(self.home, interface)?.and_then(|guard| refusal_of(&guard, list));
                let wanted = refused.is_none().then_some(list);
                let wanted = trial::unless_rejected(self.home, interface, name, wanted, self.messages)?;
                self.put_on(interface, name, wanted)?;
                if let Some(error) = refused {
                    self.messages.error(error);
                }
            }
            ListSource::Broken(last_good, kind) => {
                if self.put_on(interface, name, None)? {
                    let text = format!("{name}: THE ALLOWLIST IS BROKEN; the list in force stays");
                    self.messages.warning(text);
                } else if let Some(list) = last_good {
                    self.put_on(interface, name, Some(list))?;
                    self.messages.warning(format!(
                        "{name}: THE ALLOWLIST IS BROKEN; guarded with the last list that was in force"
                    ));
                } else {
                    return Err(no_list(*kind, name));
                }
            }
        }
        Ok(())
    }

    fn put_on(&mut self, interface: &Interface, name: &str, list: Option<&Allowlist>) -> Result<bool> {
        // What may not be empty was refused before.
        let wanted = Wanted { list, named: self.order.named(), allow_empty: true, trial: None };
        put_on(self.home, interface, name, wanted, self.messages)
    }

    /// Restores all of the order but the mode, if that is what keeps it from being restored: a guard keeps its mode for as long
    /// as it is on, and may be in audit mode meanwhile. Whether there was something to restore, and it is restored.
    fn guard_in_its_mode(&mut self, interface: &Interface, name: &str) -> bool {
        let order = ServiceOrder { mode: None, ..self.order.clone() };
        let differs = |home: &Home| {
            let guard = Guard::find(home, interface).ok().flatten();
            guard.is_some_and(|guard| order.differences(&guard).is_ok_and(|it| !it.is_empty()))
        };
        if self.order.mode.is_none() || !differs(self.home) {
            return false;
        }
        let mut rest = Keeping {
            home: self.home,
            claims: &mut *self.claims,
            order: &order,
            source: self.source,
            messages: &mut *self.messages,
        };
        rest.guard(interface, name).is_ok()
    }

    /// What of the order is not in force, and cannot be: what waits for its confirmation is left alone until then.
    fn still_differs(&self, interface: &Interface) -> Option<String> {
        let guard = Guard::find(self.home, interface).ok().flatten()?;
        let guard = Some(guard).filter(|guard| is_waiting(guard).is_ok_and(|waits| !waits))?;
        let differences = self.order.differences(&guard).ok().filter(|it| !it.is_empty())?;
        Some(differences.join(", "))
    }
}

/// Why the list of the service is not put in force on a guard that is there, if it is not: a list that loses all entries of
/// a family takes `--allow-empty`. A guard with somebody else's list gets that of the service all the same, or a list that
/// lets everybody in would stay; unless that of the service is empty, as the one that comes with the package is.
fn refusal_of(guard: &Guard, list: &Allowlist) -> Option<Error> {
    let is_own = guard.list().is_some_and(|in_force| in_force.path == list.path());
    let error = guard.require_replaceable(list, false).err()?;
    (is_own || list.entries().is_empty()).then_some(error)
}

fn no_list(kind: Kind, subject: &str) -> Error {
    Error::new(kind, format!("{subject}: there is no list to guard with"))
        .because("the allowlist is broken, and no copy of an earlier one has been kept")
        .remedy("Mend the list: portguard check shows what is wrong with it.")
}

/// How it is with the guard of an interface.
fn describe(home: &Home, name: &str) -> Result<String> {
    let guard = Guard::by_name(Some(home), name)?;
    let generation = guard.list().map_or(0, |list| list.generation);
    let counters = guard.counters()?;
    let refused = if guard.is_enforcing() {
        format!("{} dropped", counters.dropped().packets)
    } else {
        format!("audit only, {} would be dropped", counters.would_drop.packets)
    };
    let trial = guard.confirmation()?.map(|it| format!(", {}", trial::summary(&it))).unwrap_or_default();
    Ok(format!("generation {generation}, {} allowed, {refused}{trial}", counters.allowed.packets))
}

/// Fails for names that no interface can ever have: to wait for them would be in vain.
fn require_possible(name: &str) -> Result<()> {
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
