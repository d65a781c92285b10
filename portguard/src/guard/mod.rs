//! The guard on an interface: loads, attaches, pins and finds it. No other module opens or writes pinned maps.

mod abi5;
mod abi8;
mod attach;
mod bpf;
mod bpffs;
pub mod by_reason;
pub mod calls;
mod cells;
mod clock;
mod conditions;
mod confirm;
mod connected;
mod constants;
mod counter_sets;
mod counters;
mod denied_source;
mod device;
mod drop_log;
mod earlier;
mod entries;
mod event;
mod grace;
mod hook;
mod in_force;
mod indexes;
mod instance;
mod link;
mod list_maps;
mod lists;
mod loader;
mod mapped;
mod mode;
mod mounts;
mod order;
mod privileges;
mod renew;
mod reset;
mod shadow;
mod sizes;
mod tcx;
mod test_frame;
mod trial;
mod tries;
mod uppers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use portguard_common::READABLE_ABI_VERSIONS;
use portguard_common::conditions::Conditions;

use crate::allowlist::{self, Allowlist};
use crate::error::{Error, Kind, Result};
use crate::interface::{self, Interface};

pub use attach::{Attached, attach};
pub use bpffs::{
    Access, BPFFS, Claim, Lock, Patience, PinRoot, is_cut_off, is_mounted as is_bpffs_mounted,
    network_namespace,
};
pub use by_reason::{ByReason, PerDenial};
pub(crate) use clock::boot_now;
pub use clock::{Uptime, unix_now};
pub use confirm::{Confirmation, Trial, Waits};
pub use counters::{Fill, SetId, Snapshot, Sums};
pub use denied_source::{Asked, Source};
pub use drop_log::{DropLog, LoggedDrop};
pub use event::{EndReason, Ended, Event};
pub use hook::{Hook, HookChoice};
pub use in_force::{Covering, ListInfo};
pub use instance::{Identity, Instance};
pub use mode::{Lacking, ModeChoice, Obstacle};
pub use mounts::{Whose, whose};
pub use order::{LastOrder, LogLimit, Named, Order};
pub use privileges::require as require_privileges;
pub use reset::Reset;
pub use shadow::{Decision, Ruling, Shadow};
pub use tcx::{has_others_on_tcx, needs_tcx, programs_on, require_attachable, require_guardable};
pub use trial::{Due, Restored, next_deadline, restore};
pub use uppers::PutBack;

pub(crate) use link::LINK_PIN;

use event::tell_ends;
use grace::GracePeriod;
use instance::InstanceName;
use link::{PinnedLink, remove_directory};
use lists::{Content, Remains};

/// The operation that a guard of an earlier ABI does not permit, for an error message.
pub(crate) const CANNOT_REPLACE: &str = "its list cannot be replaced";

/// A guard that is on its interface.
#[derive(Debug)]
pub struct Guard {
    pinned: PinnedLink,
    instance: Instance,
}

impl Guard {
    /// The guard on an interface, if there is one.
    pub fn find(pin_root: &PinRoot, interface: &Interface) -> Result<Option<Self>> {
        loop {
            let Some(pinned) = PinnedLink::find(pin_root, interface)? else { return Ok(None) };
            let program = pinned.program_id;
            match Self::open(pinned) {
                Ok(guard) => return Ok(Some(guard)),
                // Readers take no lock: another portguard may have replaced or removed the instance in the meantime.
                Err(error) => match PinnedLink::find(pin_root, interface)? {
                    None => return Ok(None),
                    Some(again) if again.program_id == program => return Err(error),
                    Some(_) => {}
                },
            }
        }
    }

    fn open(pinned: PinnedLink) -> Result<Self> {
        let name = &pinned.interface.name;
        let Some(live) = instance::live(&pinned.directory, pinned.program_id)? else {
            return Err(Error::failed(format!("{name}: the pins of the guard are damaged"))
                .because(format!(
                    "no instance in {} has program {}, which the link runs",
                    pinned.directory.display(),
                    pinned.program_id
                ))
                .remedy(format!(
                    "The port is still guarded. To start again: portguard detach {name} (this opens the port), then \
                     attach."
                )));
        };
        if !live.is_readable() {
            return Err(Error::failed(format!(
                "{name}: guarded by a portguard with ABI version {}, but this portguard knows the versions {}",
                live.abi,
                READABLE_ABI_VERSIONS.map(|version| version.to_string()).join(" and "),
            ))
            .remedy(format!(
                "That guard remains active. Use the portguard that attached it; or run portguard detach {name}, which \
                 opens the port, and attach."
            )));
        }
        let instance = Instance::open(&pinned.directory, live)?;
        Ok(Self { pinned, instance })
    }

    /// The guard on the interface with a name; an error if there is none.
    pub fn by_name(pin_root: Option<&PinRoot>, name: &str) -> Result<Self> {
        let interface = interface::by_name(name)?;
        let guard = pin_root.map(|pin_root| Self::find(pin_root, &interface)).transpose()?.flatten();
        guard.ok_or_else(|| not_attached(name))
    }

    /// The guards on these interfaces, or all guards of this network namespace if `names` is empty. Each guard occurs
    /// once, also if its interface has several of the names.
    pub fn select(pin_root: Option<&PinRoot>, names: &[String]) -> Result<Vec<Result<Self>>> {
        if names.is_empty() {
            let interfaces = guarded(pin_root)?;
            let find = |interface: &Interface| {
                pin_root.and_then(|pin_root| Self::find(pin_root, interface).transpose())
            };
            return Ok(interfaces.iter().filter_map(find).collect());
        }
        let mut found = BTreeSet::new();
        let guards = names.iter().map(|name| Self::by_name(pin_root, name));
        Ok(guards
            .filter(|guard| guard.as_ref().map_or(true, |guard| found.insert(guard.interface().index)))
            .collect())
    }

    /// The interface, as it was when the guard was looked up.
    pub fn interface(&self) -> &Interface {
        &self.pinned.interface
    }

    /// Where the program runs.
    pub fn hook(&self) -> Hook {
        self.pinned.hook
    }

    /// Whether denied packets are dropped; false in audit mode.
    pub fn is_enforcing(&self) -> bool {
        !self.instance.is_audit()
    }

    /// When the guard was attached, in nanoseconds of Unix time.
    pub fn attached_at(&self) -> u64 {
        clock::unix_time(self.instance.abi(), self.instance.policy.read(0).attached_at)
    }

    /// The order of the guard.
    pub fn order(&self) -> Result<Order> {
        Order::of(&self.instance, self.hook())
    }

    /// The kernel's identification of the program.
    pub fn program(&self) -> &Identity {
        self.instance.identity()
    }

    /// The ABI version of its maps.
    pub fn abi_version(&self) -> u32 {
        self.instance.abi()
    }

    /// The path of the link's pin.
    pub fn pin(&self) -> PathBuf {
        self.pinned.directory.join(LINK_PIN)
    }

    /// The list in force.
    pub fn list(&self) -> Option<ListInfo> {
        in_force::list(&self.instance)
    }

    /// The prefixes of the list in force, read back from the kernel, in order.
    pub fn prefixes(&self) -> Result<Vec<IpNet>> {
        in_force::prefixes(&self.pinned.directory, &self.instance)
    }

    /// Those of them that have not ended.
    pub fn prefixes_now(&self) -> Result<Vec<IpNet>> {
        let conditions = in_force::conditions_of_entries(&self.pinned.directory, &self.instance)?;
        let now = boot_now();
        let mut prefixes = self.prefixes()?;
        prefixes.retain(|prefix| conditions.get(prefix).is_none_or(|conditions| now < conditions.deadline));
        Ok(prefixes)
    }

    /// The prefixes of a list that have other conditions than in the list in force, in order.
    pub fn changed_conditions(&self, list: &Allowlist) -> Result<Vec<IpNet>> {
        let conditional = list.numbered().take_while(|entry| entry.conditions().is_some());
        let new: BTreeMap<IpNet, _> = conditional
            .map(allowlist::Entry::prefix)
            .zip(conditions::of_list(list, self.interface()))
            .collect();
        let old = in_force::conditions_of_entries(&self.pinned.directory, &self.instance)?;
        let mut all: Vec<IpNet> = old.keys().chain(new.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|prefix| match (old.get(prefix), new.get(prefix)) {
            (Some(old), Some(new)) => !old.are_stated_as(new),
            _ => true,
        });
        Ok(all)
    }

    /// The conditions of the entries of the list in force that have any.
    pub fn conditions(&self) -> Vec<Conditions> {
        in_force::conditions(&self.instance)
    }

    /// By how much a deadline of an entry is off at most, by the clock of now.
    pub fn deadline_drift(&self) -> Duration {
        Duration::from_nanos(conditions::drift(&self.instance))
    }

    /// The entry of the list in force that covers an address, if one does.
    pub fn covering(&self, address: IpAddr) -> Result<Option<Covering>> {
        in_force::covering(&self.pinned.directory, &self.instance, address)
    }

    /// A shadow of the program, which gives its verdicts: those of now, or at a time in nanoseconds of Unix time. The caller holds the
    /// lock.
    pub fn shadow(&self, at: Option<u64>) -> Result<Shadow> {
        self.require_current("its program cannot be run for verdicts")?;
        Shadow::of(self, at)
    }

    /// Puts a list in force, in one step. The caller holds the lock.
    ///
    /// # Errors
    /// The list has lost all entries of an address family without `allow_empty`, or the kernel refuses. The list in
    /// force remains.
    pub fn reload(self, list: &Allowlist, allow_empty: bool, tell: &mut dyn FnMut(Event)) -> Result<()> {
        self.require_reloadable(list, allow_empty)?;
        let content = Content::of(list, self.interface())?;
        let Some(plan) = content.plan(&self.instance)? else {
            return self.renew_lists(&content, Named::default(), tell)?.forget_rejected();
        };
        let before = self.list().map(|list| list.generation);
        let filled = lists::fill(&self.instance, before, &content, plan, tell)?;
        lists::switch(&self.instance, &filled)?;
        self.forget_rejected()
    }

    /// Fails if [`reload`](Self::reload) would refuse the list.
    pub fn require_reloadable(&self, list: &Allowlist, allow_empty: bool) -> Result<()> {
        self.require_current(CANNOT_REPLACE)?;
        self.require_settled()?;
        self.require_replaceable(list, allow_empty)
    }

    /// Fails if the list in force has entries of an address family, and `list` has none of them, unless `allow_empty`
    /// is set.
    pub fn require_replaceable(&self, list: &Allowlist, allow_empty: bool) -> Result<()> {
        match self.list() {
            Some(in_force) if !allow_empty => in_force.require_no_family_lost(list),
            _ => Ok(()),
        }
    }

    /// The drop log. It exists also if the log rate is zero.
    pub fn drop_log(&self) -> Result<DropLog> {
        DropLog::open(self.instance.log()?)
    }

    /// The kernel's number of the ring buffer of the drop log.
    pub fn drop_log_id(&self) -> Result<u32> {
        drop_log::id(&self.instance.log()?)
    }

    /// The number of packets that the drop log had no budget or no room for.
    pub fn not_logged(&self) -> u64 {
        self.instance.counters.totals().not_logged
    }

    /// The sums of the counters now, without the sources.
    pub fn sums(&self) -> Sums {
        self.instance.counters.sums()
    }

    /// The sources that have asked over a connection of TCP while the guard was in audit mode, and that its list did not
    /// cover.
    pub fn connected(&self) -> Result<Vec<IpAddr>> {
        self.instance.connected()
    }

    /// The contents of the counters now, with the sources.
    pub fn counters(&self) -> Result<Snapshot> {
        self.instance.counters.read()
    }
}

/// Computes the deadlines of the entries of all guards again, by the clock of now. Returns by how much those of each guard were off, by the
/// name of its interface. The caller holds the lock for changes.
///
/// # Errors
/// The interfaces cannot be listed. A guard that is damaged is left out: who needs it reports that.
pub fn set_deadlines(pin_root: &PinRoot) -> Result<Vec<(String, Duration)>> {
    let guards = Guard::select(Some(pin_root), &[])?.into_iter().flatten();
    Ok(guards
        .map(|guard| {
            let moved = Duration::from_nanos(conditions::set_deadlines(&guard.instance));
            (guard.interface().name.clone(), moved)
        })
        .collect())
}

/// By how much the deadlines of the entries of all guards are off at most, by the clock of now.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn deadline_drift(pin_root: &PinRoot) -> Result<Duration> {
    let guards = Guard::select(Some(pin_root), &[])?.into_iter().flatten();
    Ok(guards.map(|guard| guard.deadline_drift()).max().unwrap_or_default())
}

/// Detaches the guard from the interface with a name, also if its maps are damaged. Events report the contents of its
/// counters before these are removed. The caller holds the lock.
pub fn detach(pin_root: Option<&PinRoot>, name: &str, tell: &mut dyn FnMut(Event)) -> Result<()> {
    let interface = interface::by_name(name)?;
    let pinned = pin_root.map(|pin_root| PinnedLink::find(pin_root, &interface)).transpose()?.flatten();
    let pinned = pinned.ok_or_else(|| {
        not_attached(name).remedy("See which interfaces are guarded with: portguard status")
    })?;
    if bpffs::is_claimed(&pinned.directory)? {
        return Err(Error::failed(format!("{name}: a portguard service keeps the guard on"))
            .remedy(format!(
                "Stop the service first (systemctl stop portguard@{name}, or end `portguard run`). The guard remains \
                 on until you detach it."
            )));
    }
    take_off(&pinned, tell)
}

/// Detaches a guard, and removes its pins. The caller holds the lock.
fn take_off(pinned: &PinnedLink, tell: &mut dyn FnMut(Event)) -> Result<()> {
    // Damaged or unknown maps must not prevent that a guard is detached.
    let live = instance::live(&pinned.directory, pinned.program_id).ok().flatten();
    let live = live.filter(|name| name.is_readable());
    let live = live.and_then(|name| Instance::open(&pinned.directory, name).ok());
    let grace = live.as_ref().and_then(|_| GracePeriod::prepare().ok());
    let remains = live.as_ref().and_then(|live| Remains::of(&pinned.directory, live));
    pinned.detach()?;
    // The counters must include the packets that are being judged now.
    if let Some(grace) = grace {
        grace.wait();
    }
    tell_ends(&pinned.directory, &[], EndReason::Detached, tell);
    drop(live);
    remove_directory(&pinned.directory)?;
    if let Some(remains) = remains {
        remains.empty();
    }
    Ok(())
}

/// Whether a service has claimed the guard on an interface. The caller holds the lock.
pub fn is_kept(pin_root: &PinRoot, interface: &Interface) -> Result<bool> {
    let pinned = PinnedLink::find(pin_root, interface)?;
    pinned.map_or(Ok(false), |pinned| bpffs::is_claimed(&pinned.directory))
}

/// The number of programs that the kernel runs on packets for the sockets of a control group.
pub fn count_on_group(group: BorrowedFd<'_>) -> std::io::Result<u32> {
    bpf::count_on_group(group)
}

/// Whether a guard is on an interface.
pub fn is_on(pin_root: &PinRoot, interface: &Interface) -> Result<bool> {
    Ok(PinnedLink::find(pin_root, interface)?.is_some())
}

/// Claims the guard on an interface, which must be there, for a service. The caller holds the lock.
///
/// # Errors
/// There is none, or another service has claimed it.
pub fn claim(pin_root: &PinRoot, interface: &Interface) -> Result<Claim> {
    // The program may have been attached after `interface` was read.
    let fresh = interface::all()?.into_iter().find(|fresh| fresh.index == interface.index);
    let pinned = fresh.map(|fresh| PinnedLink::find(pin_root, &fresh)).transpose()?.flatten();
    let pinned = pinned.ok_or_else(|| not_attached(&interface.name))?;
    bpffs::claim(&interface.name, &pinned.directory)
}

/// Whether a claim is for the guard that is on an interface now.
pub fn holds(pin_root: &PinRoot, interface: &Interface, claim: &Claim) -> Result<bool> {
    Ok(PinnedLink::find(pin_root, interface)?.is_some_and(|pinned| claim.is_at(&pinned.directory)))
}

/// The names of the interfaces of this network namespace that have a guard.
pub fn guarded_names(pin_root: Option<&PinRoot>) -> Result<Vec<String>> {
    let Some(pin_root) = pin_root else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for interface in guarded(Some(pin_root))? {
        names.extend(PinnedLink::find(pin_root, &interface)?.map(|pinned| pinned.interface.name));
    }
    Ok(names)
}

/// The indexes of the interfaces of this network namespace that had a guard whose link is gone. The interfaces
/// themselves may be gone, too.
pub fn remains(pin_root: &PinRoot) -> Result<Vec<u32>> {
    link::remains(pin_root)
}

/// The last order of a guard whose link is gone, if its remaining pins show it.
pub fn order_of_remains(pin_root: &PinRoot, ifindex: u32) -> Option<LastOrder> {
    let directory = pin_root.interface(ifindex).ok()?;
    // If there are several instances, it is unknown which one the link ran.
    let [name] = InstanceName::list(&directory).ok()?[..] else { return None };
    let instance = name.is_readable().then(|| Instance::open(&directory, name).ok()).flatten()?;
    LastOrder::of(&instance).ok()
}

/// The default number of sources that each CPU remembers of each address family; `None` if the sizes of this host are
/// unknown.
pub fn default_sources() -> Option<u32> {
    sizes::Sizes::of_this_host(None).ok().map(sizes::Sizes::sources)
}

/// Removes the pins of guards whose interfaces are gone. Events report the contents of their counters before these are
/// removed. The caller holds the lock.
pub fn sweep(pin_root: &PinRoot, tell: &mut dyn FnMut(Event)) -> Result<()> {
    link::sweep(pin_root, tell)
}

/// The interfaces of this network namespace that may have a guard: they have pins, or they have a program and may come
/// from another namespace.
fn guarded(pin_root: Option<&PinRoot>) -> Result<Vec<Interface>> {
    let Some(pin_root) = pin_root else { return Ok(Vec::new()) };
    let indexes = pin_root.interfaces()?;
    // Without a guard of another namespace, none has come from there.
    let others = pin_root.all_interfaces()?.len() > indexes.len();
    let may_come_from_elsewhere = |interface: &Interface| {
        !interface.xdp.is_empty() || link::programs_on_tcx(interface).is_ok_and(|it| !it.is_empty())
    };
    let mut interfaces = interface::all()?;
    interfaces.retain(|interface| {
        indexes.contains(&interface.index) || (others && may_come_from_elsewhere(interface))
    });
    Ok(interfaces)
}

fn not_attached(name: &str) -> Error {
    Error::new(Kind::NotThere, format!("{name}: no guard is attached"))
        .remedy(format!("Attach one with: portguard attach {name}"))
}
