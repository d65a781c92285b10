//! Renews a guard in place: a new program replaces the old one in one step, and each packet is judged and counted.
//!
//! The maps that the new program takes over from the old one depend on the change:
//!
//! | change | policy and lists | counters |
//! |---|---|---|
//! | program, audit, log rate | the same maps | the same maps |
//! | a list that has no room in the maps, permits other calls, or is the first or the last with conditions | new ones | the same maps |
//! | sources, reset | the same maps | new ones; the old ones remain beside them |
//! | ABI | new ones, filled from the tries in force | new ones; the old ones remain beside them |

use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use portguard_common::confirm::PENDING;

use crate::allowlist::Allowlist;
use crate::error::{Error, Result};
use crate::guard::attach::{set_attached_at, set_log_rate};
use crate::guard::constants::Task;
use crate::guard::event::{EndReason, Event, tell_ends};
use crate::guard::grace::GracePeriod;
use crate::guard::hook::{Difference, HookChoice, HookKind};
use crate::guard::instance::{self, Instance, InstanceName, Origin};
use crate::guard::link::PinnedLink;
use crate::guard::lists::{self, Content, Filled, Remains};
use crate::guard::order::{self, LogLimit, Named};
use crate::guard::sizes::Sizes;
use crate::guard::{Guard, ModeChoice, attach, bpf, clock, confirm, device, earlier, mode, tcx};
use crate::interface;

/// More than a packet takes from XDP to tcx: a card that merges packets and a queue for another CPU hold it for a few ticks at most.
const FROM_XDP_TO_TCX: Duration = Duration::from_millis(200);

impl Guard {
    /// Renews the guard. It changes the named parts of the order; the other parts remain. Without a list, the list in
    /// force remains. The caller holds the lock.
    ///
    /// A change from audit mode to enforcing switches the list first, and a change to audit mode switches the program
    /// first. So between the two steps, no packet from a source on the new list is dropped because of the old list. A kill
    /// between the two steps of a change to enforcing leaves the new list in audit mode.
    ///
    /// # Errors
    /// A named part cannot be changed, or the kernel refuses. The guard continues unchanged.
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

    /// Fails if the guard cannot be renewed with this list and these parts of the order.
    pub(super) fn require_renewable(
        &self,
        list: Option<&Allowlist>,
        named: Named,
        allow_empty: bool,
    ) -> Result<()> {
        self.require_settled()?;
        if let Some(choice) = named.hook {
            mode::require_possible(self.interface(), choice)?;
            self.require_mode(choice)?;
            self.require_hook(choice)?;
        }
        list.map_or(Ok(()), |list| self.require_replaceable(list, allow_empty))
    }

    /// Puts a new program in force that works on the maps of the old one.
    fn renew_program(
        self,
        list: Option<&Allowlist>,
        named: Named,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let old_sizes = self.instance.counters.own.sizes()?;
        let sizes = order::sizes_for(named.sources, old_sizes)?;
        let content = list.map(|list| Content::of(list, self.interface())).transpose()?;
        let planned = match content.as_ref() {
            None => None,
            Some(content) => match content.plan(&self.instance)? {
                Some(plan) => Some((content, plan)),
                // With other sizes, too, because nothing of the old maps remains in use but the log.
                None if sizes == old_sizes => return self.renew_lists(content, named, tell),
                None => return self.renew_all(content, named, sizes, tell),
            },
        };
        let task = self.task(named)?;
        self.clean_up(tell)?;
        let new = if sizes == old_sizes {
            self.load(task, Origin::Maps(&self.instance))?
        } else {
            self.load_beside_counters(task, Origin::NewCounters(&self.instance, sizes))?
        };
        // Both instances share the lists: the new one is filled beside the one in force.
        let before = self.list().map(|list| list.generation);
        let fill = |(content, plan)| lists::fill(&new, before, content, plan, tell);
        let filled = planned.map(fill).transpose().inspect_err(|_| self.abandon(&new))?;
        let (first, then) =
            if !task.audit && self.instance.is_audit() { (filled, None) } else { (None, filled) };
        let switch = |instance: &Instance, filled: Option<Filled>| {
            filled.map_or(Ok(()), |filled| lists::switch(instance, &filled))
        };
        switch(&self.instance, first).inspect_err(|_| self.abandon(&new))?;
        let (guard, old) = self.replace(new, named, tell)?;
        switch(&guard.instance, then)?;
        set_log_rate(&guard.instance.policy, task.log_rate);
        instance::remove(old.directory())?;
        Ok(guard)
    }

    /// Puts a list in force that the old instance cannot have: with a new program, and lists of its own.
    pub(super) fn renew_lists(
        self,
        content: &Content,
        named: Named,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let new =
            self.prepare(content, named, Origin::NewLists(&self.instance, content.capacities()?), tell)?;
        let (guard, old) = self.replace(new, named, tell)?;
        guard.retire(&old)?;
        Ok(guard)
    }

    /// Puts a new program in force with maps of its own.
    fn renew_all(
        self,
        content: &Content,
        named: Named,
        sizes: Sizes,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self> {
        let new = self.prepare(content, named, Origin::New(sizes, content.capacities()?), tell)?;
        let (guard, old) = self.replace(new, named, tell)?;
        guard.retire(&old)?;
        Ok(guard)
    }

    /// Removes an instance that this one has replaced, with its lists.
    fn retire(&self, old: &Instance) -> Result<()> {
        let interface = &self.pinned.directory;
        let remains = Remains::of(interface, old);
        lists::keep_pins_in_force(interface, &self.instance)?;
        instance::remove(old.directory())?;
        if let Some(remains) = remains {
            GracePeriod::prepare()?.wait();
            remains.empty();
        }
        Ok(())
    }

    /// Puts a new program in force with maps of its own, which have the ABI version of this portguard.
    fn upgrade(self, list: Option<&Allowlist>, named: Named, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        let sizes = order::sizes_for(named.sources, self.instance.counters.own.sizes()?)?;
        let content = self.content(list)?;
        self.renew_all(&content, named, sizes, tell)
    }

    /// The content for a list, or for the list in force.
    pub(super) fn content(&self, list: Option<&Allowlist>) -> Result<Content> {
        match list {
            Some(list) => Content::of(list, self.interface()),
            None => Content::in_force(&self.pinned.directory, &self.instance),
        }
    }

    /// Makes a new instance with a policy and lists of its own. It is complete, with the list and the named parts of the
    /// order: only the link does not run it yet.
    pub(super) fn prepare(
        &self,
        content: &Content,
        named: Named,
        origin: Origin<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Instance> {
        let (udp_calls, has_conditions) = (content.udp_calls(), content.has_conditions());
        let task = Task { udp_calls, has_conditions, ..self.task(named)? };
        let old_policy = self.instance.policy.read(0);
        self.clean_up(tell)?;
        let new = match origin {
            Origin::New(..) | Origin::NewCounters(..) => self.load_beside_counters(task, origin)?,
            Origin::Maps(_) | Origin::NewLists(..) => self.load(task, origin)?,
        };
        let before = self.list().map(|list| list.generation);
        let filled = lists::fill_new(&new, before, content, tell);
        let filled = filled.inspect_err(|_| self.abandon(&new))?;
        lists::switch(&new, &filled).inspect_err(|_| self.abandon(&new))?;
        set_attached_at(&new.policy, clock::boot_time(self.instance.abi(), old_policy.attached_at));
        set_log_rate(&new.policy, task.log_rate);
        Ok(new)
    }

    /// Begins new counters of the same size; the old ones remain beside them. Returns when no program writes the old
    /// ones any more. The caller holds the lock.
    pub(super) fn begin_counters(self, tell: &mut dyn FnMut(Event)) -> Result<Self> {
        self.require_current("its counters cannot be set back to zero")?;
        self.require_settled()?;
        let task = self.task(Named::default())?;
        self.clean_up(tell)?;
        let sizes = self.instance.counters.own.sizes()?;
        let new = self.load_beside_counters(task, Origin::NewCounters(&self.instance, sizes))?;
        let grace = GracePeriod::prepare().inspect_err(|_| self.abandon(&new))?;
        let (guard, old) = self.replace(new, Named::default(), tell)?;
        grace.wait();
        // If this fails, the next change of the guard removes the old instance.
        let _ = instance::remove(old.directory());
        Ok(guard)
    }

    /// Fails for a guard of an earlier ABI; `what` is the operation that is not possible, for the error message.
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

    /// Fails if the guard runs in another mode than a user wants: the kernel lets no native and no generic program be active at once.
    fn require_mode(&self, choice: HookChoice) -> Result<()> {
        let difference = choice.difference_of(self.hook()).filter(|it| it.what == Difference::MODE);
        let Some(Difference { what, now, wanted }) = difference else { return Ok(()) };
        let name = &self.interface().name;
        Err(Error::failed(format!("{name}: cannot change the {what} from {now} to {wanted}"))
            .because("the kernel has no native and no generic program on at once")
            .remedy(if tcx::require_possible(self.interface()).is_ok() {
                format!("Change by way of tcx, and the port is never open: portguard attach {name} --hook tcx, and then portguard attach {name} --mode {wanted}")
            } else {
                format!("Run portguard detach {name} and attach again; in between the port is open.")
            }))
    }

    /// Fails if the guard cannot be moved to a hook. The kernel may refuse it all the same.
    fn require_hook(&self, choice: HookChoice) -> Result<()> {
        match (choice.kind(), self.hook().kind()) {
            (Some(HookKind::Tcx), HookKind::Xdp) => tcx::require_possible(self.interface()).map(drop),
            (Some(HookKind::Xdp), HookKind::Tcx) => {
                device::link_type(self.interface(), HookKind::Xdp)?;
                attach::as_it_is_now(self.interface())?.as_ref().and_then(attach::foreign).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// The task of the new program.
    pub(super) fn task(&self, named: Named) -> Result<Task> {
        let hook = named.hook.and_then(HookChoice::kind).unwrap_or(self.hook().kind());
        let link_type = device::link_type(self.interface(), hook)?;
        let sizes = self.instance.counters.own.sizes()?;
        let log = match named.log {
            Some(log) => log,
            None => LogLimit::of(self.instance.policy.read(0).log_rate, self.instance.abi(), sizes.cpus()),
        };
        let (audit, log_rate) = (named.audit.unwrap_or(self.instance.is_audit()), log.rate());
        let (udp_calls, has_conditions) = (self.instance.udp_calls(), self.instance.has_conditions());
        Ok(Task { hook, link_type, audit, log_rate, udp_calls, has_conditions })
    }

    /// Removes the leftovers of killed loaders beside the live instance.
    fn clean_up(&self, tell: &mut dyn FnMut(Event)) -> Result<()> {
        let name = &self.interface().name;
        let running = bpf::link_info(self.pinned.link.as_fd()).map_err(|error| {
            Error::failed(format!("{name}: cannot read the link of the guard")).caused_by(error)
        })?;
        if running.program_id != self.program().id {
            // The code below would remove the instance that judges packets.
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
        // An upgrade that was killed may have left some.
        lists::keep_pins_in_force(interface, &self.instance)?;
        // The record of a change on trial whose loader was killed before the change was in force. It must not remain
        // pending, because the next instance may get the same name.
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

    /// Loads a new instance with counters of its own beside the live one, whose counters become an earlier set.
    fn load_beside_counters(&self, task: Task, origin: Origin<'_>) -> Result<Instance> {
        earlier::keep(&self.pinned.directory, &self.instance)?;
        self.load(task, origin).inspect_err(|_| self.forget_earlier())
    }

    /// Puts the program of a new instance in the place of the one that runs. Returns the guard with the new instance, and the old
    /// instance.
    ///
    /// It is one step, in which the link gets another program. With another hook, and if programs of others run in front of the one at
    /// tcx, it takes another link: that is on before the old one goes, and meanwhile packets may be judged, and counted, by both.
    pub(super) fn replace(
        self,
        new: Instance,
        named: Named,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(Self, Instance)> {
        let name = &self.interface().name;
        if self.needs_another_link(named).inspect_err(|_| self.abandon(&new))? {
            return self.move_to(new, named, tell);
        }
        if let Err(error) = bpf::link_update(self.pinned.link.as_fd(), new.program().as_fd()) {
            self.abandon(&new);
            let what = format!("{name}: cannot replace the program");
            return Err(Error::failed(what).caused_by(error).remedy("The guard keeps its program."));
        }
        let Self { pinned, instance: old } = self;
        Ok((Self { pinned, instance: new }, old))
    }

    /// Whether the guard is to run at another hook, or in front of programs that are in front of it.
    fn needs_another_link(&self, named: Named) -> Result<bool> {
        Ok(self.task(named)?.hook != self.hook().kind() || !self.programs_in_front()?.is_empty())
    }

    /// Attaches a new instance by a link of its own, which takes the place of the old one.
    ///
    /// On the way to XDP, the old link stays on for a while: a packet that had passed XDP before the new link was there has not yet arrived
    /// at tcx. On the way to tcx there is no such packet.
    fn move_to(self, new: Instance, named: Named, tell: &mut dyn FnMut(Event)) -> Result<(Self, Instance)> {
        let mut attach = || -> Result<PinnedLink> {
            let fresh = interface::all()?.into_iter().find(|fresh| fresh.index == self.interface().index);
            let interface = fresh.as_ref().unwrap_or(self.interface());
            let mut attachment = match self.task(named)?.hook {
                HookKind::Tcx => tcx::attach(interface, new.program())?,
                HookKind::Xdp => {
                    if let Some(error) = attach::foreign(interface) {
                        return Err(error);
                    }
                    let mode = named.hook.and_then(HookChoice::mode).unwrap_or(ModeChoice::Auto);
                    mode::attach(interface, new.program(), new.identity(), mode)?
                }
            };
            let fallback = attachment.fallback.take();
            let pinned = self.pinned.replaced_by(interface, attachment, new.identity().id)?;
            if let Some(why) = fallback {
                tell(Event::FellBack { hook: pinned.hook, why });
            }
            Ok(pinned)
        };
        let pinned = attach().inspect_err(|_| self.abandon(&new))?;
        if self.hook().kind() == HookKind::Tcx && pinned.hook.kind() == HookKind::Xdp {
            if let Ok(grace) = GracePeriod::prepare() {
                grace.wait();
            }
            thread::sleep(FROM_XDP_TO_TCX);
        }
        // The new one judges everything from here on.
        let _ = self.pinned.detach();
        Ok((Self { pinned, instance: new }, self.instance))
    }

    /// Removes an instance that never became live. Its own errors are ignored, because the caller reports the first one.
    pub(super) fn abandon(&self, instance: &Instance) {
        let _ = instance::remove(instance.directory());
        lists::discard(&self.instance);
        self.forget_earlier();
    }

    /// Removes the counters of the live instance from the earlier sets, after a renewal has failed.
    fn forget_earlier(&self) {
        let _ = earlier::remove(&self.pinned.directory, self.instance.counters.own.id());
    }
}
