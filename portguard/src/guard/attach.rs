//! Puts a guard on an interface that has none.

use std::os::fd::AsFd as _;
use std::path::Path;

use portguard_common::drop_log::Rate;
use portguard_common::frame::LinkType;
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
use crate::guard::hook::{Hook, HookChoice, HookKind};
use crate::guard::instance::{self, Instance, Origin};
use crate::guard::link::{LINK_PIN, PinnedLink, remove_directory};
use crate::guard::lists::{self, Content};
use crate::guard::mapped::Mapped;
use crate::guard::mode::{self, Attachment};
use crate::guard::order::{LogLimit, Named};
use crate::guard::sizes::Sizes;
use crate::guard::tcx;
use crate::guard::uppers::{Lifted, PutBack};
use crate::interface::{self, AttachedXdp, Interface, XdpMode};

/// The result of [`attach`].
#[derive(Debug)]
pub struct Attached {
    /// Where the program runs.
    pub hook: Hook,
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
    let fresh = as_it_is_now(interface)?;
    let interface = fresh.as_ref().unwrap_or(interface);
    let choice = named.hook.unwrap_or(HookChoice::Auto);
    mode::require_possible(interface, choice)?;
    PinnedLink::require_free(pin_root, interface)?;
    require_no_other_guard(interface)?;
    let wanted = Wanted { pin_root, interface, list, named, trial, lifts };
    let Some(mode) = choice.mode() else {
        let (hook, _) = wanted.attach_at_tcx(tell)?;
        return Ok(Attached { hook, uppers: PutBack::default() });
    };
    let mut uppers = PutBack::default();
    let attached = wanted.attach_at_xdp(mode, &mut uppers, tell).or_else(|refusal| {
        let is_refused = refusal.kind() == Kind::HookRefused && choice.permits_tcx();
        // If tcx is not possible either: XDP is the hook that was asked for first.
        if !is_refused || tcx::require_possible(interface).is_err() {
            return Err(refusal);
        }
        let (hook, _) = wanted.attach_at_tcx(tell)?;
        Ok((hook, Some(refusal)))
    });
    match attached {
        Ok((hook, refusal)) => {
            if let Some(why) = refusal {
                tell(Event::FellBack { hook, why });
            }
            Ok(Attached { hook, uppers })
        }
        Err(error) => Err(uppers.failure(error)),
    }
}

/// The interface as it is now, if it had a program at XDP when it was looked up: that may have gone.
pub(super) fn as_it_is_now(interface: &Interface) -> Result<Option<Interface>> {
    if interface.xdp.is_empty() {
        return Ok(None);
    }
    Ok(interface::all()?.into_iter().find(|fresh| fresh.index == interface.index))
}

/// Where a program runs; and why it does not run in a better mode, or at a better hook: `None` if one was named, or the best one is in use.
type Placed = (Hook, Option<Error>);

/// What [`attach`] is asked for.
struct Wanted<'a> {
    pin_root: &'a PinRoot,
    interface: &'a Interface,
    list: &'a Allowlist,
    named: Named,
    trial: Option<Trial>,
    lifts: bool,
}

impl Wanted<'_> {
    /// Attaches at XDP. `uppers` gets the guards on top of the interface that were off for it, also if it fails.
    fn attach_at_xdp(
        &self,
        mode: ModeChoice,
        uppers: &mut PutBack,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Placed> {
        let &Self { pin_root, interface, lifts, .. } = self;
        let link_type = device::link_type(interface, HookKind::Xdp)?;
        if let Some(error) = foreign(interface) {
            return Err(error);
        }
        self.attach(HookKind::Xdp, link_type, tell, |instance, directory| {
            let lifted = if lifts { Lifted::above(pin_root, interface)? } else { Lifted::default() };
            let attached = mode::attach(interface, instance.program(), instance.identity(), mode)
                .and_then(|attachment| pinned(attachment, directory));
            *uppers = lifted.put_back();
            attached.map(|Attachment { hook, fallback, .. }| (hook, fallback))
        })
    }

    /// Attaches at tcx.
    fn attach_at_tcx(&self, tell: &mut dyn FnMut(Event)) -> Result<Placed> {
        let link_type = tcx::require_possible(self.interface)?;
        self.attach(HookKind::Tcx, link_type, tell, |instance, directory| {
            let attachment = tcx::attach(self.interface, instance.program())?;
            let Attachment { hook, fallback, .. } = pinned(attachment, directory)?;
            Ok((hook, fallback))
        })
    }

    /// Makes an instance for a hook, with the list in force, and has it attached.
    fn attach(
        &self,
        hook: HookKind,
        link_type: LinkType,
        tell: &mut dyn FnMut(Event),
        attach: impl FnOnce(&Instance, &Path) -> Result<Placed>,
    ) -> Result<Placed> {
        let &Self { pin_root, interface, list, named, trial, .. } = self;
        let directory = pin_root.interface(interface.index)?;
        tell_ends(&directory, &[], EndReason::Abandoned, tell);
        remove_directory(&directory)?;
        bpffs::make_directory(&directory)?;
        let make = || {
            let sizes = Sizes::of_this_host(named.sources)?;
            let log_rate = named.log.map_or(Rate::OFF, LogLimit::rate);
            let content = Content::of(list, interface)?;
            let (udp_calls, has_conditions) = (content.udp_calls(), content.has_conditions());
            let audit = named.audit.unwrap_or(false);
            let task = Task { hook, link_type, audit, log_rate, udp_calls, has_conditions };
            let instance = Instance::load(&directory, &[], task, Origin::New(sizes, content.capacities()?))?;
            let filled = lists::fill_new(&instance, None, &content, tell)?;
            lists::switch(&instance, &filled)?;
            set_log_rate(&instance.policy, log_rate);
            set_attached_at(&instance.policy, clock::boot_now());
            if let Some(trial) = trial {
                confirm::write(&directory, &confirm::first(trial, &instance))?;
            }
            attach(&instance, &directory)
        };
        make().inspect_err(|_| {
            // The first error is the one to report.
            let _ = remove_directory(&directory);
        })
    }
}

/// Pins the link in the directory of the interface.
fn pinned(attachment: Attachment, directory: &Path) -> Result<Attachment> {
    let pin = directory.join(LINK_PIN);
    bpf::pin(attachment.link.as_fd(), &pin)
        .map_err(|error| Error::failed(format!("cannot pin {}", pin.display())).caused_by(error))?;
    Ok(attachment)
}

/// Fails if an interface without a guard that this portguard finds has one nevertheless, at either hook: a second one beside it would count
/// everything twice, and neither would be all.
pub(super) fn require_no_other_guard(interface: &Interface) -> Result<()> {
    let Some((id, hook)) = program_of_guard(interface) else { return Ok(()) };
    Err(Error::failed(format!("{}: another portguard's guard is attached already", interface.name))
        .because(format!("program {id}, {}", hook.place()))
        .remedy(
            "It was attached in another network or mount namespace, or its pins were removed: detach it there.",
        ))
}

/// A program of a guard on an interface, by its name, whoever has attached it.
pub(super) fn program_of_guard(interface: &Interface) -> Option<(u32, Hook)> {
    let at_xdp = interface.xdp.iter().map(|it| (it.program_id, Hook::Xdp(it.mode)));
    let at_tcx = bpf::programs_on_tcx(interface.index).ok().flatten().unwrap_or_default();
    at_xdp.chain(at_tcx.into_iter().map(|id| (id, Hook::Tcx))).find(|(id, _)| instance::is_of_guard(*id))
}

/// The error if an interface without a guard cannot get one at XDP, because it has a program of another owner.
pub(super) fn foreign(interface: &Interface) -> Option<Error> {
    interface.xdp.first().map(|foreign| busy(interface, *foreign))
}

fn busy(interface: &Interface, foreign: AttachedXdp) -> Error {
    let name = &interface.name;
    let program = instance::program_name(foreign.program_id);
    let error = Error::new(Kind::HookRefused, format!("{name}: another XDP program is attached already"))
        .because(format!(
            "program {}{}, in {} mode",
            foreign.program_id,
            program.as_ref().map(|program| format!(", {program}")).unwrap_or_default(),
            foreign.mode.key()
        ));
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
