//! The pinned link: it shows that a guard is on an interface, and detaches the guard.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::guard::bpf::{self, LinkInfo};
use crate::guard::bpffs::PinRoot;
use crate::guard::event::{self, EndReason, Event};
use crate::interface::{self, AttachedXdp, Interface};

/// The file name of the pin.
pub(crate) const LINK_PIN: &str = "link";

/// How often link and interface are compared until they agree. Another portguard may replace the program of the link
/// between the two calls that read them.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A link on its interface: both the link and the interface name the same program.
#[derive(Debug)]
pub(super) struct PinnedLink {
    /// The interface, as it was when the link was looked up.
    pub interface: Interface,
    /// The directory of the interface.
    pub directory: PathBuf,
    /// The file descriptor of the link.
    pub link: OwnedFd,
    /// The program that it runs, and the mode.
    pub program: AttachedXdp,
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
            Pin::Nothing | Pin::Defunct => return Ok(Found::Nothing),
            Pin::Live(link, info) => (link, info),
        };
        let program = interface.xdp.iter().find(|xdp| xdp.program_id == info.program_id);
        if let Some(&program) = program
            && info.ifindex == Some(interface.index)
        {
            return Ok(Found::Here(PinnedLink { interface, directory, link, program }));
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

/// The link of an interface that was moved here from another network namespace, perhaps with another index. The link
/// moves with the interface, but its pin remains in the old directory.
fn moved(pin_root: &PinRoot, interface: &Interface) -> Result<Option<PinnedLink>> {
    if interface.xdp.is_empty() {
        return Ok(None);
    }
    for directory in pin_root.all_interfaces()? {
        // Readers take no lock: a pin that was removed in the meantime belonged to another interface.
        let Ok(Pin::Live(link, info)) = open(&directory) else { continue };
        let program = interface.xdp.iter().find(|xdp| xdp.program_id == info.program_id);
        if let Some(&program) = program
            && info.ifindex == Some(interface.index)
        {
            return Ok(Some(PinnedLink { interface: interface.clone(), directory, link, program }));
        }
    }
    Ok(None)
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
        if !matches!(open(&pin_root.interface(index)?)?, Pin::Live(..)) {
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

/// Removes a directory and all pins in it, if it exists.
pub(crate) fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove {}", directory.display())).caused_by(error))
        }
        _ => Ok(()),
    }
}
