//! Guards on devices that are on top of an interface. The kernel attaches no program below another one (`dev_xdp_attach` of
//! `net/core/dev.c`), so that these are taken off while the interface below gets its guard: for some 20 ms, of which the second
//! half is covered by that guard, against an interface that stays open. Their pins, maps and counters stay.

use std::fs;
use std::os::fd::AsFd as _;

use crate::error::{Error, Result};
use crate::guard::bpffs::PinRoot;
use crate::guard::instance::{self, Instance};
use crate::guard::link::{LINK_PIN, PinnedLink};
use crate::guard::{bpf, mode};
use crate::interface::{self, Interface};

/// Guards that are off for a moment, the lowest last.
#[derive(Debug, Default)]
pub(super) struct Lifted(Vec<Upper>);

/// A guard on top of an interface.
#[derive(Debug)]
struct Upper {
    pinned: PinnedLink,
    instance: Instance,
}

/// What became of guards that were off for a moment.
#[derive(Debug, Default)]
pub struct PutBack {
    /// The interfaces whose guards are on again.
    pub on: Vec<String>,
    /// Why others are not.
    pub failed: Vec<Error>,
}

impl Lifted {
    /// Takes off the guards that are in the way of one on this interface. If a program of somebody else's is in the way as
    /// well, nothing is taken off. The caller holds the lock.
    pub(super) fn above(pin_root: &PinRoot, interface: &Interface) -> Result<Self> {
        let mut uppers = Vec::new();
        let all = interface::all()?;
        // It may have become a port since it was looked up.
        let interface = all.iter().find(|fresh| fresh.index == interface.index).unwrap_or(interface);
        if !collect(pin_root, interface, &all, &mut uppers)? {
            return Ok(Self::default());
        }
        let mut lifted = Self::default();
        for upper in uppers {
            if let Err(error) = upper.pinned.detach() {
                // Those that are off already; the first error is the one to tell.
                let _ = lifted.put_back();
                return Err(error);
            }
            lifted.0.push(upper);
        }
        Ok(lifted)
    }

    /// Puts them back, the lowest first.
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
    let flags = mode::flags(pinned.program.mode);
    let link = bpf::link_create(instance.program().as_fd(), pinned.interface.index, flags)?;
    let pin = pinned.directory.join(LINK_PIN);
    // That of the link that was taken off.
    fs::remove_file(&pin)?;
    bpf::pin(link.as_fd(), &pin)
}

/// Collects the guards above an interface that are in the way, the highest first; false: something else is in the way.
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
        let Some(pinned) = PinnedLink::find(pin_root, upper)? else { return Ok(false) };
        let live = instance::live(&pinned.directory, pinned.program.program_id)?;
        // One that this portguard cannot read, it cannot put back.
        let Some(live) = live.filter(|live| live.is_readable()) else { return Ok(false) };
        let instance = Instance::open(&pinned.directory, live)?;
        if !collect(pin_root, upper, all, uppers)? {
            return Ok(false);
        }
        uppers.push(Upper { pinned, instance });
    }
    Ok(true)
}
