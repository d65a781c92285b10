//! Puts a guard on an interface that has none.

use std::os::fd::AsFd as _;
use std::path::Path;

use portguard_common::drop_log::Rate;
use portguard_common::policy::Policy;

use crate::allowlist::Allowlist;
use crate::error::{Error, Kind, Result};
use crate::guard::ModeChoice;
use crate::guard::bpf;
use crate::guard::bpffs::{self, PinRoot};
use crate::guard::clock;
use crate::guard::confirm::{self, Trial};
use crate::guard::constants::Task;
use crate::guard::device;
use crate::guard::event::{EndReason, Event, tell_ends};
use crate::guard::instance::{self, Instance, Origin};
use crate::guard::link::{LINK_PIN, PinnedLink, remove_directory};
use crate::guard::lists::{self, Content};
use crate::guard::mapped::Mapped;
use crate::guard::mode::{self, Attachment};
use crate::guard::order::{LogLimit, Named};
use crate::guard::sizes::Sizes;
use crate::guard::uppers::{Lifted, PutBack};
use crate::interface::{AttachedXdp, Interface, XdpMode};

/// The result of [`attach`].
#[derive(Debug)]
pub struct Attached {
    /// Where the program runs.
    pub mode: XdpMode,
    /// Why the program does not run in a better mode; `None` if a mode was named, or the best one is in use.
    pub fallback: Option<Error>,
    /// The guards on top of the interface, which were off for a moment.
    pub uppers: PutBack,
}

/// Puts a guard on an interface that has none; on trial if there is a `trial`. The caller holds the lock. If `lifts`,
/// guards on top of the interface may be off for a moment.
///
/// # Errors
/// The interface cannot be guarded, has a program of another owner, or the kernel refuses. The interface then has no
/// guard.
pub fn attach(
    pin_root: &PinRoot,
    interface: &Interface,
    list: &Allowlist,
    named: Named,
    trial: Option<Trial>,
    lifts: bool,
    tell: &mut dyn FnMut(Event),
) -> Result<Attached> {
    let choice = named.mode.unwrap_or(ModeChoice::Auto);
    mode::require_possible(interface, choice)?;
    let link_type = device::link_type(interface)?;
    if let Some(error) = foreign(interface) {
        return Err(error);
    }
    PinnedLink::require_free(pin_root, interface)?;
    let directory = pin_root.interface(interface.index)?;
    tell_ends(&directory, &[], EndReason::Abandoned, tell);
    remove_directory(&directory)?;
    bpffs::make_directory(&directory)?;
    let mut attach = || {
        let sizes = Sizes::of_this_host(named.sources)?;
        let log_rate = named.log.map_or(Rate::OFF, LogLimit::rate);
        let content = Content::of(list, interface)?;
        let (udp_calls, has_conditions) = (content.udp_calls(), content.has_conditions());
        let audit = named.audit.unwrap_or(false);
        let task = Task { link_type, audit, log_rate, udp_calls, has_conditions };
        let instance = Instance::load(&directory, &[], task, Origin::New(sizes, content.capacities()?))?;
        let filled = lists::fill_new(&instance, None, &content, tell)?;
        lists::switch(&instance, &filled)?;
        set_log_rate(&instance.policy, log_rate);
        set_attached_at(&instance.policy, clock::boot_now());
        if let Some(trial) = trial {
            confirm::write(&directory, &confirm::first(trial, &instance))?;
        }
        let lifted = if lifts { Lifted::above(pin_root, interface)? } else { Lifted::default() };
        let attached = attach_and_pin(interface, &instance, choice, &directory);
        let uppers = lifted.put_back();
        match attached {
            Ok(Attachment { mode, fallback, .. }) => Ok(Attached { mode, fallback, uppers }),
            Err(error) => {
                let in_vain = !uppers.on.is_empty() || !uppers.failed.is_empty();
                // A guard that was taken off and remains off is worse than the first error.
                let error = uppers.failed.into_iter().next().unwrap_or(error);
                Err(if in_vain { error.of_kind(Kind::LiftedInVain) } else { error })
            }
        }
    };
    attach().inspect_err(|_| {
        // The first error is the one to report.
        let _ = remove_directory(&directory);
    })
}

fn attach_and_pin(
    interface: &Interface,
    instance: &Instance,
    choice: ModeChoice,
    directory: &Path,
) -> Result<Attachment> {
    let attachment = mode::attach(interface, instance.program(), instance.identity(), choice)?;
    let pin = directory.join(LINK_PIN);
    bpf::pin(attachment.link.as_fd(), &pin)
        .map_err(|error| Error::failed(format!("cannot pin {}", pin.display())).caused_by(error))?;
    Ok(attachment)
}

/// The error if an interface without a guard cannot get one, because it has a program of another owner.
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
        foreign.mode.key()
    ));
    if program.is_some_and(|program| instance::is_name_of_guard(&program)) {
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
        "portguard does not replace it. If it is not needed, stop the program that attached it, or run: ip link set \
         dev {name} {switch} off"
    ))
}

/// Stores the log rate of the running program, which the next program takes over.
pub(super) fn set_log_rate(policy: &Mapped<Policy>, rate: Rate) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped, and the kernel program does not use the field.
    unsafe { (&raw mut (*policy).log_rate).write_volatile(rate) };
}

/// Stores when the guard was attached, in nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn set_attached_at(policy: &Mapped<Policy>, time: u64) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped, and the kernel program does not use the field.
    unsafe { (&raw mut (*policy).attached_at).write_volatile(time) };
}
