//! Puts a guard on an interface, and renews it in place.

use std::os::fd::AsFd as _;

use portguard_common::drop_log::Rate;
use portguard_common::policy::Policy;

use crate::allowlist::Allowlist;
use crate::cli::{GuardOptions, ModeChoice};
use crate::error::{Error, Result};
use crate::guard::bpffs::{self, Home};
use crate::guard::clock::unix_now;
use crate::guard::counters::Snapshot;
use crate::guard::instance::{self, Instance, InstanceName, Keep, Origin, Task};
use crate::guard::link::{LINK_PIN, PinnedLink, remove_directory};
use crate::guard::lists::{self, Event, Grace};
use crate::guard::mapped::Mapped;
use crate::guard::mode;
use crate::guard::sizes::Sizes;
use crate::guard::{Guard, bpf};
use crate::interface::{AttachedXdp, Interface, XdpMode};

/// What the user wants of a guard.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How the kernel runs it.
    pub mode: ModeChoice,
    /// Whether it only counts what it would drop.
    pub audit: bool,
    /// How many sources each CPU remembers, of each address family; the host's default if absent.
    pub sources: Option<u32>,
    /// How many drops may be logged a second; as before if absent.
    pub log: Option<LogLimit>,
}

/// How many drops may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLimit {
    /// None.
    Off,
    /// So many a second, on all CPUs together.
    PerSecond(u32),
}

impl LogLimit {
    fn rate(self, sizes: Sizes) -> Rate {
        match self {
            Self::Off => Rate::OFF,
            Self::PerSecond(lines) => Rate::per_cpu(lines, sizes.cpus()),
        }
    }
}

impl From<&GuardOptions> for Options {
    fn from(&GuardOptions { mode, audit, sources }: &GuardOptions) -> Self {
        Self { mode, audit, sources, log: None }
    }
}

/// What `attach` did.
#[derive(Debug)]
pub enum Attached {
    /// There was no guard; `fallback` says why it does not run in native mode, if nobody asked for another.
    New {
        /// Where the program runs.
        mode: XdpMode,
        /// Why in no better mode.
        fallback: Option<Error>,
    },
    /// There was one, and it goes on with a new program and list.
    Renewed,
}

/// Puts a guard on an interface, or renews the one that is there. The caller holds the lock.
pub fn attach(
    home: &Home,
    interface: &Interface,
    list: &Allowlist,
    options: Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Attached> {
    mode::require_possible(interface, options.mode)?;
    match Guard::find(home, interface)? {
        Some(guard) => renew(guard, Some(list), options, tell),
        None => attach_new(home, interface, list, options, tell),
    }
}

/// Renews the program of the guard on an interface, if there is one, and leaves its list in force. The caller holds the
/// lock.
pub fn take_over(home: &Home, interface: &Interface, options: Options) -> Result<Option<Attached>> {
    Guard::find(home, interface)?.map(|guard| renew(guard, None, options, &mut |_| {})).transpose()
}

fn attach_new(
    home: &Home,
    interface: &Interface,
    list: &Allowlist,
    options: Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Attached> {
    let link_type = mode::link_type(interface)?;
    if let Some(error) = foreign(interface) {
        return Err(error);
    }
    PinnedLink::require_free(home, interface)?;
    let directory = home.interface(interface.index)?;
    remove_directory(&directory)?;
    bpffs::make_directory(&directory)?;
    let mut attach = || {
        let sizes = Sizes::of_this_host(options.sources)?;
        let log_rate = options.log.map_or(Rate::OFF, |log| log.rate(sizes));
        let task = Task { link_type, audit: options.audit, log_rate };
        let instance = Instance::load(&directory, &[], task, Origin::New(sizes))?;
        let filled = lists::fill(&directory, &instance, list, tell)?;
        lists::switch(&directory, &instance, &filled)?;
        set_log_rate(&instance.policy, log_rate);
        set_attached_at(&instance.policy, unix_now());
        let attachment = mode::attach(interface, instance.program(), instance.identity(), options.mode)?;
        let pin = directory.join(LINK_PIN);
        bpf::pin(attachment.link.as_fd(), &pin)
            .map_err(|error| Error::from_io(format!("cannot pin {}", pin.display()), &error))?;
        Ok(Attached::New { mode: attachment.mode, fallback: attachment.fallback })
    };
    attach().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = remove_directory(&directory);
    })
}

/// A new program on the maps of the old one: no packet goes unjudged or uncounted. Without a list, the one in force
/// stays.
fn renew(
    guard: Guard,
    list: Option<&Allowlist>,
    options: Options,
    tell: &mut dyn FnMut(Event),
) -> Result<Attached> {
    let mode = guard.mode();
    let other = match options.mode {
        ModeChoice::Auto => None,
        ModeChoice::Native => Some(XdpMode::Native),
        ModeChoice::Generic => Some(XdpMode::Generic),
        ModeChoice::Offload => Some(XdpMode::Offload),
    };
    if let Some(other) = other.filter(|other| *other != mode) {
        let name = &guard.interface().name;
        return Err(Error::failed(format!(
            "{name}: cannot change the mode from {} to {}",
            mode.word(),
            other.word()
        ))
        .because("a guard that is attached keeps its mode")
        .remedy(format!("Run portguard detach {name} and attach again; in between the port is open.")));
    }
    let sizes = guard.instance.counters.sizes()?;
    if let Some(sources) = options.sources.filter(|sources| !sizes.are_for(*sources)) {
        let name = &guard.interface().name;
        let now = sizes.sources();
        return Err(Error::failed(format!(
            "{name}: cannot change the number of sources from {now} to {sources}"
        ))
        .because("the counters that are there keep their size")
        .remedy(format!("Run portguard detach {name} and attach again; in between the port is open.")));
    }
    let directory = guard.pinned.directory.clone();
    let log_rate = options.log.map_or_else(|| log_rate(&guard), |log| log.rate(sizes));
    let new = prepare(&guard, Keep::PolicyAndCounters, options.audit, log_rate)?;
    // Both instances share the lists: the new one is filled beside the one in force.
    let filled = list.map(|list| lists::fill(&directory, &new, list, tell)).transpose();
    let filled = filled.inspect_err(|_| abandon(&new))?;
    let (guard, old) = replace(guard, new)?;
    if let Some(filled) = filled {
        lists::switch(&directory, &guard.instance, &filled)?;
    }
    set_log_rate(&guard.instance.policy, log_rate);
    instance::remove(old.directory())?;
    Ok(Attached::Renewed)
}

/// Sets the counters of a guard back to zero; what they held at the very end of their time is returned. The caller
/// holds the lock.
pub fn reset(guard: Guard) -> Result<Snapshot> {
    let new = prepare(&guard, Keep::Policy, guard.instance.is_audit(), log_rate(&guard))?;
    let grace = Grace::prepare(&guard.pinned.directory, &new).inspect_err(|_| abandon(&new))?;
    let (_guard, old) = replace(guard, new)?;
    grace.wait();
    let last = old.counters.read();
    // What cannot be removed now, the next change of the guard removes.
    let _ = instance::remove(old.directory());
    last
}

/// A new instance beside the live one.
fn prepare(guard: &Guard, keep: Keep, audit: bool, log_rate: Rate) -> Result<Instance> {
    let name = &guard.interface().name;
    let link_type = mode::link_type(guard.interface())?;
    let running = bpf::link_info(guard.pinned.link.as_fd())
        .map_err(|error| Error::from_io(format!("{name}: cannot look at the link of the guard"), &error))?;
    if running.program_id != guard.program().id {
        // What is removed below would be the instance that judges.
        return Err(Error::failed(format!("{name}: the guard has been renewed since it was looked up"))
            .remedy("It goes on as it is. Try again."));
    }
    let interface = &guard.pinned.directory;
    let taken = InstanceName::list(interface)?;
    for directory in taken.iter().map(|name| name.directory(interface)) {
        if directory != guard.instance.directory() {
            instance::remove(&directory)?;
        }
    }
    let task = Task { link_type, audit, log_rate };
    Instance::load(interface, &taken, task, Origin::Of(&guard.instance, keep))
}

/// Removes an instance that never became live; the error that led to it is the one to tell.
fn abandon(instance: &Instance) {
    let _ = instance::remove(instance.directory());
}

/// Lets the link run a new instance, from one packet to the next; gives the guard with the new one, and the old one.
fn replace(guard: Guard, new: Instance) -> Result<(Guard, Instance)> {
    if let Err(error) = bpf::link_update(guard.pinned.link.as_fd(), new.program().as_fd()) {
        abandon(&new);
        let what = format!("{}: cannot replace the program", guard.interface().name);
        return Err(Error::from_io(what, &error).remedy("The guard goes on as it was."));
    }
    let Guard { pinned, instance: old } = guard;
    Ok((Guard { pinned, instance: new }, old))
}

/// Why an interface without a guard cannot get one: somebody else's program is on it.
pub fn foreign(interface: &Interface) -> Option<Error> {
    interface.xdp.first().map(|foreign| busy(interface, *foreign))
}

fn busy(interface: &Interface, foreign: AttachedXdp) -> Error {
    let name = &interface.name;
    let program = instance::program_name(foreign.program_id);
    let error = Error::failed(format!("{name}: another XDP program is attached already")).because(format!(
        "program {}{}, in {} mode",
        foreign.program_id,
        program.as_ref().map(|program| format!(", {program}")).unwrap_or_default(),
        foreign.mode.word()
    ));
    if program.is_some_and(|program| program.starts_with("portguard")) {
        return error.remedy(
            "It is a guard that was attached in another network or mount namespace, or whose pins were removed: \
             detach it there.",
        );
    }
    let switch = match foreign.mode {
        XdpMode::Native => "xdpdrv",
        XdpMode::Generic => "xdpgeneric",
        XdpMode::Offload => "xdpoffload",
    };
    error.remedy(format!(
        "portguard leaves it alone. If nobody needs it, stop what attached it, or: ip link set dev {name} {switch} off"
    ))
}

/// What the program that runs may log.
fn log_rate(guard: &Guard) -> Rate {
    guard.instance.policy.read(0).log_rate
}

fn set_log_rate(policy: &Mapped<Policy>, rate: Rate) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped, and the kernel program does not use the field.
    unsafe { (&raw mut (*policy).log_rate).write_volatile(rate) };
}

fn set_attached_at(policy: &Mapped<Policy>, time: u64) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped, and the kernel program does not use the field.
    unsafe { (&raw mut (*policy).attached_at).write_volatile(time) };
}
