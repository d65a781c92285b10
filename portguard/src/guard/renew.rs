//! Renews a guard in place: a new program, from one packet to the next, and no packet goes unjudged or uncounted.
//!
//! What the new program takes over from the old one depends on what changes:
//!
//! | what changes | policy and lists | counters |
//! |---|---|---|
//! | program, audit, log rate | the same maps | the same maps |
//! | sources, reset | the same maps | new ones; the old ones stay beside them |
//! | ABI | new ones, filled from the tries in force | new ones; the old ones stay beside them |

use std::os::fd::AsFd as _;

use portguard_common::confirm::PENDING;

use crate::allowlist::Allowlist;
use crate::error::{Error, Result};
use crate::guard::ModeChoice;
use crate::guard::attach::{set_attached_at, set_log_rate};
use crate::guard::event::{EndReason, Event, tell_ends};
use crate::guard::instance::{self, Instance, InstanceName, Origin, Task};
use crate::guard::lists::{self, Content, Filled, GracePeriod};
use crate::guard::order::{self, Named};
use crate::guard::{Guard, bpf, clock, confirm, device, earlier, mode};

impl Guard {
    /// Renews the guard with what is named of its order; what is not named stays. Without a list, the one in force stays.
    /// The caller holds the lock.
    ///
    /// Towards enforcing the list goes first, towards audit mode the program: so no source that the new list allows is
    /// dropped by the old one. A kill between the two leaves the new list, in audit mode.
    ///
    /// # Errors
    /// What is named cannot be changed, or the kernel refuses. The guard goes on as it was.
    pub fn renew(
        self,
        list: Option<&Allowlist>,
        named: Named,
        allow_empty: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        self.require_renewable(list, named, allow_empty)?;
        let guard = if self.instance.is_current() {
            self.renew_program(list, named, tell)?
        } else {
            self.upgrade(list, named, tell)?
        };
        if list.is_some() {
            guard.forget_rejected()?;
        }
        Ok(guard)
    }

    /// Fails if the guard cannot be renewed so.
    pub(super) fn require_renewable(
        &self,
        list: Option<&Allowlist>,
        named: Named,
        allow_empty: bool,
    ) -> Result<()> {
        self.require_settled()?;
        if let Some(choice) = named.mode {
            mode::require_possible(self.interface(), choice)?;
            self.require_mode(choice)?;
        }
        list.map_or(Ok(()), |list| self.require_replaceable(list, allow_empty))
    }

    /// A new program on the maps of the old one.
    fn renew_program(
        self,
        list: Option<&Allowlist>,
        named: Named,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let interface = self.pinned.directory.clone();
        let old_sizes = self.instance.counters.own.sizes()?;
        let sizes = order::sizes_for(named.sources, old_sizes)?;
        let task = self.task(named)?;
        self.clean_up(tell)?;
        let new = if sizes == old_sizes {
            self.load(task, Origin::Maps(&self.instance))?
        } else {
            self.load_beside_counters(task, Origin::NewCounters(&self.instance, sizes))?
        };
        // Both instances share the lists: the new one is filled beside the one in force.
        let before = self.list().map(|list| list.generation);
        let fill = |list| lists::fill(&interface, &new, before, Content::of(list)?, tell);
        let filled = list.map(fill).transpose().inspect_err(|_| self.abandon(&new))?;
        let (first, then) =
            if !task.audit && self.instance.is_audit() { (filled, None) } else { (None, filled) };
        let switch = |instance: &Instance, filled: Option<Filled>| {
            filled.map_or(Ok(()), |filled| lists::switch(&interface, instance, &filled))
        };
        switch(&self.instance, first).inspect_err(|_| self.abandon(&new))?;
        let (guard, old) = self.replace(new)?;
        switch(&guard.instance, then)?;
        set_log_rate(&guard.instance.policy, task.log_rate);
        instance::remove(old.directory())?;
        Ok(guard)
    }

    /// A new program with maps of its own, which have the layout of this version.
    fn upgrade(self, list: Option<&Allowlist>, named: Named, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        let interface = self.pinned.directory.clone();
        let sizes = order::sizes_for(named.sources, self.instance.counters.own.sizes()?)?;
        let (new, filled) = self.prepare(list, named, Origin::New(sizes), tell)?;
        let (guard, old) = self.replace(new)?;
        lists::keep_pins_of(&interface, &filled)?;
        instance::remove(old.directory())?;
        Ok(guard)
    }

    /// A new instance with a policy and lists of its own, which lacks nothing but the link: what was named of the order and
    /// the list are in it.
    pub(super) fn prepare(
        &self,
        list: Option<&Allowlist>,
        named: Named,
        origin: Origin<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Instance, Filled)> {
        let interface = &self.pinned.directory;
        let task = self.task(named)?;
        let old_policy = self.instance.policy.read(0);
        self.clean_up(tell)?;
        // Read before anything is changed: it is the one step that may fail because of the old guard.
        let content = match list {
            Some(list) => Content::of(list)?,
            None => Content::in_force(interface, &self.instance)?,
        };
        let new = match origin {
            Origin::New(_) | Origin::NewCounters(..) => self.load_beside_counters(task, origin)?,
            Origin::Maps(_) | Origin::NewLists(_) => self.load(task, origin)?,
        };
        let before = self.list().map(|list| list.generation);
        let filled = lists::fill(interface, &new, before, content, tell);
        let filled = filled.inspect_err(|_| self.abandon(&new))?;
        lists::switch(interface, &new, &filled).inspect_err(|_| self.abandon(&new))?;
        set_attached_at(&new.policy, clock::boot_time(self.instance.abi(), old_policy.attached_at));
        set_log_rate(&new.policy, task.log_rate);
        Ok((new, filled))
    }

    /// Begins new counters, of the same size; the old ones stay beside them. Returns when nothing writes to those any
    /// more. The caller holds the lock.
    pub(super) fn begin_counters(self, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        self.require_current("its counters cannot be set back to zero")?;
        self.require_settled()?;
        let interface = self.pinned.directory.clone();
        let task = self.task(Named::default())?;
        self.clean_up(tell)?;
        let sizes = self.instance.counters.own.sizes()?;
        let new = self.load_beside_counters(task, Origin::NewCounters(&self.instance, sizes))?;
        let grace = GracePeriod::prepare(&interface, &new).inspect_err(|_| self.abandon(&new))?;
        let (guard, old) = self.replace(new)?;
        grace.wait();
        // What cannot be removed now, the next change of the guard removes.
        let _ = instance::remove(old.directory());
        Ok(guard)
    }

    /// Fails for a guard of an earlier ABI; `what` says what cannot be done with it.
    pub(crate) fn require_current(&self, what: &str) -> Result<()> {
        if self.instance.is_current() {
            return Ok(());
        }
        let name = &self.interface().name;
        Err(Error::failed(format!("{name}: {what}"))
            .because(format!(
                "the guard was attached by a portguard with ABI version {}",
                self.instance.abi()
            ))
            .remedy(format!("Upgrade it first, in place and without a gap: portguard attach {name}")))
    }

    /// Fails unless the guard runs in this mode.
    fn require_mode(&self, choice: ModeChoice) -> Result<()> {
        let mode = self.mode();
        let other = order::mode_in_force(choice).filter(|other| *other != mode);
        let Some(other) = other else { return Ok(()) };
        let name = &self.interface().name;
        let (mode, other) = (mode.word(), other.word());
        Err(Error::failed(format!("{name}: cannot change the mode from {mode} to {other}"))
            .because("a guard that is attached keeps its mode")
            .remedy(format!("Run portguard detach {name} and attach again; in between the port is open.")))
    }

    /// What the new program is to do.
    fn task(&self, named: Named) -> Result<Task> {
        let link_type = device::link_type(self.interface())?;
        let sizes = self.instance.counters.own.sizes()?;
        let log_rate = match named.log {
            Some(log) => log.rate(sizes.cpus()),
            None => self.instance.policy.read(0).log_rate,
        };
        Ok(Task { link_type, audit: named.audit.unwrap_or(self.instance.is_audit()), log_rate })
    }

    /// Removes what loaders that were killed have left beside the live instance.
    fn clean_up(&self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let name = &self.interface().name;
        let running = bpf::link_info(self.pinned.link.as_fd()).map_err(|error| {
            Error::failed(format!("{name}: cannot read the link of the guard")).caused_by(error)
        })?;
        if running.program_id != self.program().id {
            // What is removed below would be the instance that judges.
            return Err(Error::failed(format!("{name}: the guard was renewed in the meantime"))
                .remedy("The guard remains as it is. Run the command again."));
        }
        let interface = &self.pinned.directory;
        let live: Vec<_> = self.instance.counters.ids().collect();
        tell_ends(interface, &live, EndReason::Abandoned, tell);
        for directory in InstanceName::list(interface)?.iter().map(|name| name.directory(interface)) {
            if directory != self.instance.directory() {
                instance::remove(&directory)?;
            }
        }
        // A change on trial whose loader was killed before it was in force: the next instance may get its name.
        if let Some(record) = confirm::read(interface)?.filter(|record| record.state == PENDING) {
            confirm::write(interface, &confirm::rejected(record))?;
        }
        earlier::remove(interface, self.instance.counters.own.id())
    }

    /// Loads a new instance beside the live one.
    fn load(&self, task: Task, origin: Origin<'_>) -> Result<Instance> {
        let interface = &self.pinned.directory;
        Instance::load(interface, &InstanceName::list(interface)?, task, origin)
    }

    /// The same, for an instance with counters of its own: those of the live one will be an earlier set.
    fn load_beside_counters(&self, task: Task, origin: Origin<'_>) -> Result<Instance> {
        earlier::keep(&self.pinned.directory, &self.instance)?;
        self.load(task, origin).inspect_err(|_| self.forget_earlier())
    }

    /// Lets the link run a new instance, from one packet to the next; gives the guard with the new one, and the old one.
    pub(super) fn replace(self, new: Instance) -> Result<(Self, Instance)> {
        if let Err(error) = bpf::link_update(self.pinned.link.as_fd(), new.program().as_fd()) {
            self.abandon(&new);
            let what = format!("{}: cannot replace the program", self.interface().name);
            return Err(Error::failed(what).caused_by(error).remedy("The guard keeps its program."));
        }
        let Self { pinned, instance: old } = self;
        Ok((Self { pinned, instance: new }, old))
    }

    /// Removes an instance that never became live; the error that led to it is the one to tell.
    pub(super) fn abandon(&self, instance: &Instance) {
        let _ = instance::remove(instance.directory());
        lists::let_go(&self.pinned.directory, &self.instance);
        self.forget_earlier();
    }

    /// The counters of the live instance are no earlier set after all.
    fn forget_earlier(&self) {
        let _ = earlier::remove(&self.pinned.directory, self.instance.counters.own.id());
    }
}
