//! Attaches a program at tcx, and explains why the kernel refuses; which programs are there.

use std::io;
use std::os::fd::AsFd;

use aya::util::KernelVersion;
use portguard_common::frame::LinkType;

use crate::error::{Error, Kind, Result};
use crate::guard::attach::{foreign, require_no_other_guard};
use crate::guard::hook::{Hook, HookKind};
use crate::guard::mode::{Attachment, kernel_version};
use crate::guard::{Guard, bpf, device, instance, link};
use crate::interface::Interface;

/// The first header of the packets of an interface at tcx; an error if the kernel has no tcx, or if a guard there would leave the port open.
pub(super) fn require_possible(interface: &Interface) -> Result<LinkType> {
    let link_type = device::link_type(interface, HookKind::Tcx)?;
    let name = &interface.name;
    match bpf::programs_on_tcx(interface.index) {
        Ok(Some(_)) => Ok(link_type),
        Ok(None) => Err(Error::new(Kind::HookRefused, format!("{name}: tcx refused"))
            .because(match KernelVersion::current() {
                Ok(kernel) if kernel >= KernelVersion::new(6, 6, 0) => {
                    "this kernel was built without it (CONFIG_NET_XGRESS)".to_owned()
                }
                _ => format!("it comes with Linux 6.6, and this is {}", kernel_version()),
            })
            .remedy(if device::link_type(interface, HookKind::Xdp).is_ok() {
                "Use --hook xdp."
            } else {
                "Guard port 111 on this interface by other means (nft)."
            })),
        Err(error) => Err(refusal(interface, error)),
    }
}

/// Fails with the reason if a guard on the interface would be attached and the port open, at each hook that the kernel has.
pub fn require_guardable(interface: &Interface) -> Result<()> {
    let at_xdp = device::link_type(interface, HookKind::Xdp);
    // XDP is the hook that is asked for first, so its reason is the one to report.
    at_xdp.or_else(|refusal| require_possible(interface).map_err(|_| refusal)).map(drop)
}

/// Whether the packets of an interface can be read at tcx only.
pub fn needs_tcx(interface: &Interface) -> bool {
    device::link_type(interface, HookKind::Xdp).is_err()
        && device::link_type(interface, HookKind::Tcx).is_ok()
}

/// Fails with the reason if an interface without a guard cannot get one, at each hook that the kernel has.
pub fn require_attachable(interface: &Interface) -> Result<()> {
    let at_xdp = match foreign(interface) {
        None => device::link_type(interface, HookKind::Xdp).map(drop),
        Some(foreign) => Err(foreign),
    };
    require_no_other_guard(interface)?;
    at_xdp.or_else(|refusal| require_possible(interface).map(drop).map_err(|_| refusal))
}

/// Whether programs that are not those of a guard are at tcx of an interface.
pub fn has_others_on_tcx(interface: &Interface) -> bool {
    let programs = bpf::programs_on_tcx(interface.index).ok().flatten().unwrap_or_default();
    programs.into_iter().any(|id| !instance::is_of_guard(id))
}

/// The numbers of the programs that are on an interface, at either hook.
pub fn programs_on(interface: &Interface) -> Vec<u32> {
    let at_tcx = link::programs_on_tcx(interface).unwrap_or_default();
    interface.xdp.iter().map(|xdp| xdp.program_id).chain(at_tcx).collect()
}

impl Guard {
    /// The numbers of the programs of others that run in front of it at tcx: nothing can keep it the first. There are none at XDP.
    pub fn programs_in_front(&self) -> Result<Vec<u32>> {
        if self.hook() != Hook::Tcx {
            return Ok(Vec::new());
        }
        let mut programs = link::programs_on_tcx(self.interface())?;
        // Readers take no lock: another portguard may have replaced its own program meanwhile.
        let place = programs.iter().position(|id| *id == self.pinned.program_id).unwrap_or_default();
        programs.truncate(place);
        Ok(programs)
    }
}

/// Attaches a program in front of all programs that are at tcx of an interface.
pub(super) fn attach(interface: &Interface, program: impl AsFd) -> Result<Attachment> {
    let link = bpf::link_create(program.as_fd(), interface.index, Hook::Tcx)
        .map_err(|error| refusal(interface, error))?;
    Ok(Attachment { link, hook: Hook::Tcx, fallback: None })
}

/// The error for a refusal of the kernel.
fn refusal(interface: &Interface, error: io::Error) -> Error {
    let name = &interface.name;
    match error.raw_os_error() {
        Some(libc::EPERM) => Error::new(Kind::NotPermitted, format!("{name}: not permitted to attach"))
            .because("CAP_NET_ADMIN is missing in the network namespace of the interface"),
        Some(libc::ENODEV) => {
            Error::new(Kind::NotThere, format!("{name}: the interface was removed meanwhile"))
        }
        // `bpf_mprog_attach` of `kernel/bpf/mprog.c`.
        Some(libc::ERANGE) => Error::new(Kind::HookRefused, format!("{name}: tcx refused"))
            .because("as many programs are there as the kernel permits"),
        _ => Error::new(Kind::HookRefused, format!("{name}: tcx refused")).caused_by(error),
    }
}
