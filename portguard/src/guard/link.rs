//! The pinned link: it shows that a guard is on an interface, and detaches the guard.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::guard::bpf::{self, LinkInfo, LinkKind};
use crate::guard::bpffs::PinRoot;
use crate::guard::event::{self, EndReason, Event};
use crate::guard::hook::Hook;
use crate::guard::mode::Attachment;
use crate::interface::{self, Interface};

/// The file name of the pin.
pub(crate) const LINK_PIN: &str = "link";
/// That of a link which is to take the place of the other one.
const NEW_LINK_PIN: &str = "link-new";

/// How often link and interface are compared until they agree. Another portguard may replace the program of the link
/// between the two calls that read them.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A link on its interface: both the link and the hook of the interface name the same program.
#[derive(Debug)]
pub(super) struct PinnedLink {
    /// The interface, as it was when the link was looked up.
    pub interface: Interface,
    /// The directory of the interface.
    pub directory: PathBuf,
    /// The file descriptor of the link.
    pub link: OwnedFd,
    /// The program that it runs.
    pub program_id: u32,
    /// Where it runs.
    pub hook: Hook,
}

/// The state of the pin of a link.
#[derive(Debug)]
enum Pin {
    /// There is no pin.
    Nothing,
    /// A link whose interface is gone.
    Defunct,
    /// A link that is on some interface.
    Live(OwnedFd, LinkInfo),
}

impl PinnedLink {
    /// The link on an interface, if there is one.
    pub(crate) fn find(pin_root: &PinRoot, interface: &Interface) -> Result<Option<Self>> {
        match find_link(pin_root, interface)? {
            Found::Here(link) => Ok(Some(link)),
            Found::Elsewhere(_) | Found::Nothing => moved(pin_root, interface),
        }
    }

    /// Fails if the link that is pinned in the directory of an interface is on another interface.
    pub(crate) fn require_free(pin_root: &PinRoot, interface: &Interface) -> Result<()> {
        let Found::Elsewhere(info) = find_link(pin_root, interface)? else { return Ok(()) };
        let path = pin_root.interface(interface.index)?.join(LINK_PIN);
        Err(Error::failed(format!("{}: the path of its pins is in use", interface.name))
            .because(format!(
                "{} holds the guard of an interface that was moved to another network namespace (program {})",
                path.display(),
                info.program_id
            ))
            .remedy("That guard remains active there. To take it OFF, remove the pin; or move the interface back."))
    }

    /// Pins the link of an attachment in the place of this one, in one step. This one stays attached; if that fails, or the process is killed
    /// before it, the other one goes.
    pub(super) fn replaced_by(
        &self,
        interface: &Interface,
        attachment: Attachment,
        program_id: u32,
    ) -> Result<Self> {
        let [new, pin] = [NEW_LINK_PIN, LINK_PIN].map(|name| self.directory.join(name));
        let failed = |error| Error::failed(format!("cannot pin {}", pin.display())).caused_by(error);
        bpf::pin(attachment.link.as_fd(), &new).map_err(failed)?;
        fs::rename(&new, &pin).map_err(failed).inspect_err(|_| {
            // The first error is the one to report; who takes the lock next tries again.
            let _ = remove_new(&self.directory);
        })?;
        let Attachment { link, hook, .. } = attachment;
        Ok(Self { interface: interface.clone(), directory: self.directory.clone(), link, program_id, hook })
    }

    /// Detaches the program from the interface. The pins remain.
    pub(crate) fn detach(&self) -> Result<()> {
        bpf::link_detach(self.link.as_fd()).map_err(|error| {
            Error::failed(format!("{}: cannot take the guard off", self.interface.name)).caused_by(error)
        })
    }
}

/// The result of [`find_link`].
enum Found {
    Nothing,
    Here(PinnedLink),
    Elsewhere(LinkInfo),
}

fn find_link(pin_root: &PinRoot, interface: &Interface) -> Result<Found> {
    let directory = pin_root.interface(interface.index)?;
    let mut interface = interface.clone();
    for attempt in 1.. {
        let (link, info) = match open(&directory)? {
            Pin::Live(link, info) => (link, info),
            // Another portguard may have put a link in its place just now, and detached this one.
            Pin::Defunct if attempt == 1 => continue,
            Pin::Nothing | Pin::Defunct => return Ok(Found::Nothing),
        };
        if let Some(hook) = hook_of(&info, &interface)? {
            return Ok(Found::Here(PinnedLink {
                interface,
                directory,
                link,
                program_id: info.program_id,
                hook,
            }));
        }
        if attempt == ATTEMPTS {
            return Ok(Found::Elsewhere(info));
        }
        thread::sleep(PAUSE);
        match interface::all()?.into_iter().find(|candidate| candidate.index == interface.index) {
            Some(fresh) => interface = fresh,
            None => return Ok(Found::Nothing),
        }
    }
    Ok(Found::Nothing)
}

/// The link of an interface that was moved here from another network namespace, perhaps with another index. A link
/// moves with the interface, but its pin remains in the old directory.
fn moved(pin_root: &PinRoot, interface: &Interface) -> Result<Option<PinnedLink>> {
    if interface.xdp.is_empty() && programs_on_tcx(interface).is_ok_and(|programs| programs.is_empty()) {
        return Ok(None);
    }
    for directory in pin_root.all_interfaces()? {
        // Readers take no lock: a pin that was removed in the meantime belonged to another interface.
        let Ok(Pin::Live(link, info)) = open(&directory) else { continue };
        if let Some(hook) = hook_of(&info, interface)? {
            let (interface, program_id) = (interface.clone(), info.program_id);
            return Ok(Some(PinnedLink { interface, directory, link, program_id, hook }));
        }
    }
    Ok(None)
}

/// The hook at which the program of a link is on an interface, if it is.
fn hook_of(info: &LinkInfo, interface: &Interface) -> Result<Option<Hook>> {
    if info.ifindex != Some(interface.index) {
        return Ok(None);
    }
    Ok(match info.kind {
        LinkKind::Xdp => {
            let program = interface.xdp.iter().find(|xdp| xdp.program_id == info.program_id);
            program.map(|program| Hook::Xdp(program.mode))
        }
        LinkKind::Tcx => programs_on_tcx(interface)?.contains(&info.program_id).then_some(Hook::Tcx),
    })
}

/// The numbers of the programs that are at tcx of an interface; none if the interface has gone.
pub(super) fn programs_on_tcx(interface: &Interface) -> Result<Vec<u32>> {
    match bpf::programs_on_tcx(interface.index) {
        Ok(programs) => Ok(programs.unwrap_or_default()),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        Err(error) => {
            let what = format!("{}: cannot list its programs at tcx", interface.name);
            Err(Error::failed(what).caused_by(error))
        }
    }
}

fn open(directory: &Path) -> Result<Pin> {
    let path = directory.join(LINK_PIN);
    let failed = |error| Error::failed(format!("cannot use {}", path.display())).caused_by(error);
    let link = match bpf::get(&path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pin::Nothing),
        Err(error) => return Err(failed(error)),
    };
    let info = bpf::link_info(link.as_fd()).map_err(failed)?;
    Ok(if info.ifindex.is_some() { Pin::Live(link, info) } else { Pin::Defunct })
}

/// The indexes of the interfaces of this network namespace that have pins, but no link that is on an interface.
pub(super) fn remains(pin_root: &PinRoot) -> Result<Vec<u32>> {
    let mut remains = Vec::new();
    for index in pin_root.interfaces()? {
        let directory = pin_root.interface(index)?;
        // Another portguard may have put a link in its place just now, and detached this one.
        if !matches!(open(&directory)?, Pin::Live(..)) && !matches!(open(&directory)?, Pin::Live(..)) {
            remains.push(index);
        }
    }
    Ok(remains)
}

/// Removes the pins of guards whose interfaces are gone, in every network namespace, and of attachments that were never
/// completed. The caller holds the lock.
pub(crate) fn sweep(pin_root: &PinRoot, tell: &mut dyn FnMut(Event)) -> Result<()> {
    for directory in pin_root.all_interfaces()? {
        if !matches!(open(&directory)?, Pin::Live(..)) {
            event::tell_ends(&directory, &[], EndReason::Abandoned, tell);
            remove_directory(&directory)?;
        }
    }
    pin_root.remove_empty_namespaces();
    Ok(())
}

/// Detaches links that were to take the place of another one, in every network namespace: their loaders were killed. The caller holds the
/// lock for changes. What remains here is told by the next change that needs the place.
pub(super) fn detach_abandoned(pin_root: &PinRoot) {
    for directory in pin_root.all_interfaces().unwrap_or_default() {
        let _ = remove_new(&directory);
    }
}

/// Detaches a link that was to take the place of the one in the directory of an interface, if there is one.
fn remove_new(directory: &Path) -> Result<()> {
    let pin = directory.join(NEW_LINK_PIN);
    if !pin.exists() {
        return Ok(());
    }
    // Another process may have it open. What cannot be detached goes with its pin.
    let _ = bpf::get(&pin).and_then(|link| bpf::link_detach(link.as_fd()));
    fs::remove_file(&pin)
        .map_err(|error| Error::failed(format!("cannot remove {}", pin.display())).caused_by(error))
}

/// Removes a directory and all pins in it, if it exists.
pub(crate) fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", directory.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}
