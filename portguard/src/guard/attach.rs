//! Puts a guard on an interface, renews it in place, and takes it off.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use portguard_common::policy::Policy;

use crate::allowlist::Allowlist;
use crate::cli::ModeChoice;
use crate::error::{Error, Result};
use crate::guard::bpffs::{self, Home};
use crate::guard::clock::unix_now;
use crate::guard::counters::Snapshot;
use crate::guard::instance::{self, Instance, InstanceName, Keep};
use crate::guard::lists;
use crate::guard::mapped::Mapped;
use crate::guard::mode;
use crate::guard::{Guard, LINK_PIN, bpf};
use crate::interface::{AttachedXdp, Interface, XdpMode};

/// What the user wants of a guard.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How the kernel runs it.
    pub mode: ModeChoice,
    /// Whether it only counts what it would drop.
    pub audit: bool,
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
pub fn attach(home: &Home, interface: &Interface, list: &Allowlist, options: Options) -> Result<Attached> {
    match Guard::find(home, interface)? {
        Some(guard) => renew(guard, list, options),
        None => attach_new(home, interface, list, options),
    }
}

fn attach_new(home: &Home, interface: &Interface, list: &Allowlist, options: Options) -> Result<Attached> {
    let link_type = mode::link_type(interface)?;
    if let Some(foreign) = interface.xdp {
        return Err(busy(interface, foreign));
    }
    let directory = home.interface(interface.index)?;
    remove_directory(&directory)?;
    bpffs::make_directory(&directory)?;
    let attach = || {
        let instance = Instance::load(&InstanceName::next(&[]).directory(&directory), link_type, None)?;
        let filled = lists::fill(&directory, &instance, list)?;
        lists::switch(&directory, &instance, &filled)?;
        set_audit(&instance.policy, options.audit);
        set_attached_at(&instance.policy, unix_now());
        let attachment = mode::attach(interface, instance.program(), instance.identity(), options.mode)?;
        pin_link(&directory, &attachment.link)?;
        Ok(Attached::New { mode: attachment.mode, fallback: attachment.fallback })
    };
    attach().inspect_err(|_| {
        // The first error is the one to tell.
        let _ = remove_directory(&directory);
    })
}

/// A new program on the maps of the old one: no packet goes unjudged or uncounted.
fn renew(guard: Guard, list: &Allowlist, options: Options) -> Result<Attached> {
    let mode = guard.mode();
    let other = match options.mode {
        ModeChoice::Auto => None,
        ModeChoice::Native => (mode != XdpMode::Native).then_some("native"),
        ModeChoice::Generic => (mode != XdpMode::Generic).then_some("generic"),
        ModeChoice::Offload => (mode != XdpMode::Offload).then_some("offload"),
    };
    if let Some(other) = other {
        let name = &guard.interface.name;
        return Err(Error::failed(format!("{name}: cannot change the mode from {} to {other}", mode.word()))
            .because("a guard that is attached keeps its mode")
            .remedy(format!("Run portguard detach {name} and attach again; in between the port is open.")));
    }
    let directory = guard.directory.clone();
    let (guard, old) = replace(guard, Keep::PolicyAndCounters)?;
    instance::remove(old.directory())?;
    let filled = lists::fill(&directory, &guard.instance, list)?;
    lists::switch(&directory, &guard.instance, &filled)?;
    set_audit(&guard.instance.policy, options.audit);
    Ok(Attached::Renewed)
}

/// Sets the counters of a guard back to zero; what they held at the very end of their time is returned.
pub fn reset(guard: Guard) -> Result<Snapshot> {
    let (guard, old) = replace(guard, Keep::Policy)?;
    lists::wait_for_packets_in_flight(&guard.directory, &guard.instance)?;
    let last = old.counters.read()?;
    instance::remove(old.directory())?;
    Ok(last)
}

/// Lets the link run a new instance, from one packet to the next.
fn replace(guard: Guard, keep: Keep) -> Result<(Guard, Instance)> {
    let link_type = mode::link_type(&guard.interface)?;
    let taken = InstanceName::list(&guard.directory)?;
    for name in &taken {
        let directory = name.directory(&guard.directory);
        if directory != guard.instance.directory() {
            instance::remove(&directory)?;
        }
    }
    let directory = InstanceName::next(&taken).directory(&guard.directory);
    let new = Instance::load(&directory, link_type, Some((&guard.instance, keep)))?;
    if let Err(error) = bpf::link_update(guard.link.as_fd(), new.program().as_fd()) {
        instance::remove(new.directory())?;
        return Err(Error::failed(format!("{}: cannot replace the program", guard.interface.name))
            .because(error)
            .remedy("The guard goes on as it was."));
    }
    let Guard { interface, directory, link, instance: old } = guard;
    Ok((Guard { interface, directory, link, instance: new }, old))
}

/// Takes a guard off its interface. Its counters go with it. The caller holds the lock.
pub fn detach(guard: &Guard) -> Result<()> {
    bpf::link_detach(guard.link.as_fd()).map_err(|error| {
        Error::failed(format!("{}: cannot take the guard off", guard.interface.name)).because(error)
    })?;
    remove_directory(&guard.directory)
}

/// Removes what guards have left behind whose interfaces are gone, or whose network namespaces are. The caller holds
/// the lock.
pub fn sweep(home: &Home) -> Result<()> {
    for namespace in home.namespaces()? {
        for name in bpffs::subdirectories(&namespace)? {
            let directory = namespace.join(&name);
            // An interface that has moved to another namespace, with another index, takes its guard along.
            let link = crate::guard::pinned_link(&directory)?;
            let is_guarding = link.is_some_and(|(_, info)| info.ifindex.is_some());
            if !is_guarding {
                remove_directory(&directory)?;
            }
        }
        // Only an empty one goes.
        let _ = fs::remove_dir(namespace);
    }
    Ok(())
}

fn busy(interface: &Interface, foreign: AttachedXdp) -> Error {
    let id = foreign.program_id;
    let name = instance::program_name(id).map(|name| format!(", {name}")).unwrap_or_default();
    Error::failed(format!("{}: another XDP program is attached already", interface.name))
        .because(format!("program {id}{name}, in {} mode", foreign.mode.word()))
        .remedy(format!(
            "portguard leaves it alone; if nobody needs it: ip link set dev {} xdp off",
            interface.name
        ))
}

fn pin_link(directory: &Path, link: &OwnedFd) -> Result<()> {
    let path = directory.join(LINK_PIN);
    bpf::pin(link.as_fd(), &path)
        .map_err(|error| Error::failed(format!("cannot pin {}", path.display())).because(error))
}

fn set_audit(policy: &Mapped<Policy>, audit: bool) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped for as long as `policy` lives, and aligned; the kernel program reads the field in
    // one load.
    unsafe { AtomicU32::from_ptr(&raw mut (*policy).audit) }.store(audit.into(), Ordering::Release);
}

fn set_attached_at(policy: &Mapped<Policy>, time: u64) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped, and the kernel program does not use the field.
    unsafe { (&raw mut (*policy).attached_at).write_volatile(time) };
}

fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", directory.display())).because(error))
        }
        _ => Ok(()),
    }
}
