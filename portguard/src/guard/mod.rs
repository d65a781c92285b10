//! The guard on an interface: load, attach, pin, find again. The only opener and writer of pinned maps.

mod attach;
mod bpf;
mod bpffs;
mod clock;
mod counters;
mod instance;
mod lists;
mod mapped;
mod mode;
mod privileges;
mod sizes;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use portguard_common::ABI_VERSION;

use crate::allowlist::Allowlist;
use crate::error::{Error, Kind, Result};
use crate::interface::{self, Interface, XdpMode};

pub use attach::{Attached, Options, attach, detach, reset, sweep};
pub use bpffs::{Home, Lock};
pub use clock::unix_now;
pub use counters::{Snapshot, Source};
pub use instance::{Identity, Instance};
pub use lists::ListInfo;
pub use privileges::require as require_privileges;

/// The file name of the link's pin.
const LINK_PIN: &str = "link";

/// A guard that is on its interface.
#[derive(Debug)]
pub struct Guard {
    interface: Interface,
    directory: PathBuf,
    link: OwnedFd,
    instance: Instance,
}

impl Guard {
    /// The guard on an interface, if there is one.
    ///
    /// Who only looks takes no lock. When another portguard replaces or removes what is being looked at, the link
    /// tells, and the look starts afresh.
    pub fn find(home: &Home, interface: &Interface) -> Result<Option<Self>> {
        let directory = home.interface(interface.index)?;
        loop {
            let Some((link, info)) = link_on(&directory, interface.index)? else { return Ok(None) };
            match Self::open(interface, &directory, info) {
                Ok(instance) => {
                    return Ok(Some(Self { interface: interface.clone(), directory, link, instance }));
                }
                Err(_) if bpf::link_info(link.as_fd()).is_ok_and(|now| now != info) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the instance that a link runs.
    fn open(interface: &Interface, directory: &Path, info: bpf::LinkInfo) -> Result<Instance> {
        let name = &interface.name;
        for candidate in instance::InstanceName::list(directory)? {
            let candidate_directory = candidate.directory(directory);
            let identity = match instance::identity(&candidate_directory) {
                Ok(identity) => identity,
                // Left behind by a loader that was killed before it could pin the program.
                Err(_) => continue,
            };
            if identity.id != info.program_id {
                continue;
            }
            if candidate.abi != ABI_VERSION {
                return Err(Error::failed(format!(
                    "{name}: guarded by a portguard with ABI version {}, and this one knows version {ABI_VERSION}",
                    candidate.abi
                ))
                .remedy(format!(
                    "That guard goes on. Use the portguard that attached it, or run its portguard detach {name}."
                )));
            }
            return Instance::open(&candidate_directory);
        }
        Err(Error::failed(format!("{name}: the pins of the guard in {} are damaged", directory.display()))
            .because(format!("none of them is program {}, which the link runs", info.program_id))
            .remedy(format!("The port is guarded still. To start afresh, remove {}.", directory.display())))
    }

    /// The guard on the interface with a name; an error if there is none.
    pub fn by_name(home: Option<&Home>, name: &str) -> Result<Self> {
        let interface = interface::by_name(name)?;
        let guard = match home {
            Some(home) => Self::find(home, &interface)?,
            None => None,
        };
        guard.ok_or_else(|| {
            Error::new(Kind::NotThere, format!("{name}: no guard is attached"))
                .remedy(format!("Attach one with: portguard attach {name}"))
        })
    }

    /// All guards of this network namespace.
    pub fn all(home: Option<&Home>) -> Result<Vec<Self>> {
        let Some(home) = home else { return Ok(Vec::new()) };
        let indexes = home.interfaces()?;
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let mut guards = Vec::new();
        for interface in interface::all()?.iter().filter(|interface| indexes.contains(&interface.index)) {
            guards.extend(Self::find(home, interface)?);
        }
        Ok(guards)
    }

    /// The guards on these interfaces; all of this network namespace if none is named.
    pub fn select(home: Option<&Home>, names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Self::all(home);
        }
        names.iter().map(|name| Self::by_name(home, name)).collect()
    }

    /// The interface, as it was when the guard was looked up.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Where the program runs.
    pub fn mode(&self) -> XdpMode {
        self.interface.xdp.map_or(XdpMode::Native, |xdp| xdp.mode)
    }

    /// Whether denied packets are dropped, not only counted.
    pub fn is_enforcing(&self) -> bool {
        self.instance.policy.read(0).audit == 0
    }

    /// When the guard was attached, in nanoseconds of Unix time.
    pub fn attached_at(&self) -> u64 {
        self.instance.policy.read(0).attached_at
    }

    /// The kernel's name for the program.
    pub fn program(&self) -> &Identity {
        self.instance.identity()
    }

    /// The version of the layout of its maps.
    pub fn abi_version(&self) -> u32 {
        ABI_VERSION
    }

    /// Where the link is pinned.
    pub fn pin(&self) -> PathBuf {
        self.directory.join(LINK_PIN)
    }

    /// The list in force.
    pub fn list(&self) -> Option<ListInfo> {
        lists::in_force(&self.instance.policy)
    }

    /// The prefixes of the list in force, read back from the kernel.
    pub fn prefixes(&self) -> Result<BTreeSet<IpNet>> {
        lists::prefixes_in_force(&self.directory, &self.instance.policy)
    }

    /// Puts a list in force, in one step. The caller holds the lock.
    pub fn reload(&self, list: &Allowlist) -> Result<()> {
        let filled = lists::fill(&self.directory, &self.instance, list)?;
        lists::switch(&self.directory, &self.instance, &filled)
    }

    /// What the counters hold now.
    pub fn counters(&self) -> Result<Snapshot> {
        self.instance.counters.read()
    }
}

/// The link that is pinned in a directory, if it is on the interface with this index.
fn link_on(directory: &Path, ifindex: u32) -> Result<Option<(OwnedFd, bpf::LinkInfo)>> {
    Ok(pinned_link(directory)?.filter(|(_, info)| info.ifindex == Some(ifindex)))
}

/// The link that is pinned in a directory, whether it is still on an interface or not.
fn pinned_link(directory: &Path) -> Result<Option<(OwnedFd, bpf::LinkInfo)>> {
    let path = directory.join(LINK_PIN);
    let failed = |error| Error::failed(format!("cannot use {}", path.display())).because(error);
    let link = match bpf::get(&path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let info = bpf::link_info(link.as_fd()).map_err(failed)?;
    Ok(Some((link, info)))
}
