//! Guards on devices that are on top of an interface. The kernel attaches no program below another one (`dev_xdp_attach` of
//! `net/core/dev.c`), so these guards are detached while the interface below gets its guard. This takes some 20 ms, and
//! the new guard covers the second half of that time. Without it, the interface below would remain open. The pins, maps
//! and counters of the detached guards remain.

use std::fs;
use std::os::fd::AsFd as _;

use crate::error::{Error, Kind, Result};
use crate::guard::bpf;
use crate::guard::bpffs::PinRoot;
use crate::guard::instance::{self, Instance};
use crate::guard::link::{LINK_PIN, PinnedLink};
use crate::interface::{self, Interface};

/// Guards that are detached for a moment, the lowest last.
#[derive(Debug, Default)]
pub(super) struct Lifted(Vec<Upper>);

/// A guard on top of an interface.
#[derive(Debug)]
struct Upper {
    pinned: PinnedLink,
    instance: Instance,
}

/// The result for guards that were detached for a moment.
#[derive(Debug, Default)]
pub struct PutBack {
    /// The interfaces whose guards are attached again.
    pub on: Vec<String>,
    /// The errors for guards that remain detached.
    pub failed: Vec<Error>,
}

impl PutBack {
    /// The error of a guard below them that could not be attached, for this reason.
    pub(super) fn failure(self, error: Error) -> Error {
        if self.on.is_empty() && self.failed.is_empty() {
            return error;
        }
        // A guard that was taken off and remains off is worse than the first error.
        self.failed.into_iter().next().unwrap_or(error).of_kind(Kind::LiftedInVain)
    }
}

impl Lifted {
    /// Detaches the guards that prevent a guard on this interface. If a program of another owner prevents it as well,
    /// no guard is detached. The caller holds the lock.
    pub(super) fn above(pin_root: &PinRoot, interface: &Interface) -> Result<Self> {
        let mut uppers = Vec::new();
        let all = interface::all()?;
        // The interface may have become a port since it was looked up.
        let interface = all.iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
        if !collect(pin_root, interface, &all, &mut uppers)? {
            return Ok(Self::default());
        }
        let mut lifted = Self::default();
        for upper in uppers {
            if let Err(error) = upper.pinned.detach() {
                // Attach the detached guards again; the first error is the one to report.
                let _ = lifted.put_back();
                return Err(error);
            }
            lifted.0.push(upper);
        }
        Ok(lifted)
    }

    /// Attaches the guards again, the lowest first.
    pub(super) fn put_back(self) -> PutBack {
        let mut put_back = PutBack::default();
        for Upper { pinned, instance } in self.0.into_iter().rev() {
            let name = pinned.interface.name.clone();
            match attach_again(&pinned, &instance) {
                Ok(()) => put_back.on.push(name),
                Err(error) => put_back.failed.push(
                    Error::failed(format!("{name}: its guard is OFF: it could not be put back"))
                        .caused_by(error)
                        .remedy(format!("Put a new one on: portguard attach {name}")),
                ),
            }
        }
        put_back
    }
}

fn attach_again(pinned: &PinnedLink, instance: &Instance) -> std::io::Result<()> {
    let link = bpf::link_create(instance.program().as_fd(), pinned.interface.index, pinned.hook)?;
    let pin = pinned.directory.join(LINK_PIN);
    // The pin of the link that was detached.
    fs::remove_file(&pin)?;
    bpf::pin(link.as_fd(), &pin)
}

/// Collects the guards on top of an interface, the highest first. Returns false if another program is on top of it, too.
fn collect(
    pin_root: &PinRoot,
    interface: &Interface,
    all: &[Interface],
    uppers: &mut Vec<Upper>,
) -> Result<bool> {
    let above = all.iter().filter(|other| other.is_above(interface) && !other.xdp.is_empty());
    for upper in above {
        let known = uppers.iter().any(|it| it.pinned.interface.index == upper.index);
        if known {
            continue;
        }
        // A guard at tcx prevents nothing, so it is a program of another owner that does.
        let at_xdp = PinnedLink::find(pin_root, upper)?.filter(|pinned| pinned.hook.mode().is_some());
        let Some(pinned) = at_xdp else { return Ok(false) };
        let live = instance::live(&pinned.directory, pinned.program_id)?;
        // This portguard could not attach a guard again that it cannot read.
        let Some(live) = live.filter(|live| live.is_readable()) else { return Ok(false) };
        let instance = Instance::open(&pinned.directory, live)?;
        if !collect(pin_root, upper, all, uppers)? {
            return Ok(false);
        }
        uppers.push(Upper { pinned, instance });
    }
    Ok(true)
}
