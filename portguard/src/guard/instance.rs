//! An instance: a loaded program and its maps, pinned in the directory of the instance.
//!
//! Each change of the program (the first attachment, an upgrade, a reset of the counters) makes a new instance. The maps
//! that it takes over from the old one are pinned in its directory, too. The change takes effect when the link begins to
//! run the new program. The instance whose program the link runs is the live one. Any other instance is a leftover of a
//! loader that was killed.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use aya::programs::{ProgramInfo, loaded_programs};
use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Conditions;
use portguard_common::lookup::Lookup;
use portguard_common::policy::Policy;
use portguard_common::{ABI_VERSION, READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::abi5;
use crate::guard::bpf;
use crate::guard::bpffs;
use crate::guard::clock::Clock;
use crate::guard::connected::{self};
use crate::guard::constants::Task;
use crate::guard::counter_sets::CounterSets;
use crate::guard::counters::Counters;
use crate::guard::earlier;
use crate::guard::list_maps::open_mapped;
use crate::guard::lists::Capacities;
use crate::guard::loader;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The maps of the lists that the program uses.
pub(super) const LIST_MAPS: [&str; 8] = [
    names::LOOKUP,
    names::LIST_V4,
    names::LIST_V6,
    names::ENTRIES_V4,
    names::ENTRIES_V6,
    names::BLOCKS_V4,
    names::BLOCKS_V6,
    names::CONDITIONS,
];
pub(super) const LOG_MAPS: [&str; 2] = [names::LOG_BUDGET, names::LOG];
pub(super) const COUNTER_MAPS: [&str; 3] = [names::CELLS, names::REQUESTS_V4, names::REQUESTS_V6];

/// The maps with the counters of an ABI, without `EPOCH`.
pub(super) fn counter_maps(abi: u32) -> &'static [&'static str] {
    if abi <= abi5::LAST { &abi5::COUNTER_MAPS } else { &COUNTER_MAPS }
}

/// The first ABI whose lists can restrict the calls over UDP.
const FIRST_WITH_UDP_CALLS: u32 = 8;

/// The file name of the program's pin.
pub(super) const PROGRAM_PIN: &str = "program";

/// A program and its maps.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    name: InstanceName,
    program: OwnedFd,
    identity: Identity,
    /// The policy map.
    pub policy: Mapped<Policy>,
    /// What the look-ups of the program begin with; `None` in ABI 4 and 5.
    pub lookup: Option<Mapped<Lookup>>,
    /// The conditions of the entries; `None` before ABI 9.
    pub(super) conditions: Option<Mapped<Conditions>>,
    /// The counters of the instance, and the earlier sets.
    pub counters: CounterSets,
}

/// The kernel's identification of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number, which is unique while the program is loaded.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// A hash of its instructions, as `bpftool prog` shows it.
    pub tag: u64,
}

/// The maps that a new instance takes over. All other maps are new.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    /// No maps; the new counters have these sizes, and the new lists this room.
    New(Sizes, Capacities),
    /// All maps of the live instance.
    Maps(&'a Instance),
    /// The policy, lists and log of the live instance; the new counters have these sizes.
    NewCounters(&'a Instance, Sizes),
    /// The counters and log of the live instance; the new lists have this room.
    NewLists(&'a Instance, Capacities),
}

/// The name of an instance's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceName {
    /// The ABI version of its maps.
    pub abi: u32,
    /// A number that increases, so that a new instance can be made beside an old one.
    pub number: u32,
    /// Whether its program runs in audit mode. It is in the name, so that it is right for the live instance at any
    /// moment.
    pub audit: bool,
}

/// The end of the name of an instance in audit mode.
const AUDIT_SUFFIX: &str = "-audit";

impl InstanceName {
    /// The names of the instances in the directory of an interface.
    pub(super) fn list(interface: &Path) -> Result<Vec<Self>> {
        Ok(bpffs::subdirectories(interface)?.iter().filter_map(|name| Self::parse(name)).collect())
    }

    fn parse(name: &str) -> Option<Self> {
        let (name, audit) = match name.strip_suffix(AUDIT_SUFFIX) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (abi, number) = name.strip_prefix("abi")?.split_once('-')?;
        Some(Self { abi: abi.parse().ok()?, number: number.parse().ok()?, audit })
    }

    /// Whether this version can read its maps.
    pub(super) fn is_readable(self) -> bool {
        READABLE_ABI_VERSIONS.contains(&self.abi)
    }

    /// The path of the instance's directory in the directory of an interface.
    pub(super) fn directory(self, interface: &Path) -> PathBuf {
        let Self { abi, number, audit } = self;
        interface.join(format!("abi{abi}-{number}{}", if audit { AUDIT_SUFFIX } else { "" }))
    }

    /// The name of the next instance; `taken` are the names of those that exist.
    pub(super) fn next(taken: &[Self], audit: bool) -> Self {
        let number = taken.iter().map(|name| name.number).max().map_or(1, |number| number + 1);
        Self { abi: ABI_VERSION, number, audit }
    }
}

impl Instance {
    /// Loads a new instance into the directory of an interface, beside the instances in `taken`. It shares the maps
    /// that it takes over with the old instance.
    pub(super) fn load(
        interface: &Path,
        taken: &[InstanceName],
        task: Task,
        origin: Origin<'_>,
    ) -> Result<Self> {
        let name = InstanceName::next(taken, task.audit);
        let directory = name.directory(interface);
        bpffs::make_directory(&directory)?;
        let loaded = loader::load(&directory, task, origin).and_then(|()| Self::open(interface, name));
        let instance = loaded.inspect_err(|_| {
            // The first error is the one to report.
            let _ = remove(&directory);
        })?;
        if let Origin::New(..) | Origin::NewLists(..) = origin {
            let policy = instance.policy.element(0);
            // SAFETY: the element is mapped, and the kernel program does not use the field.
            unsafe { (&raw mut (*policy).udp_calls).write_volatile(task.udp_calls as u32) };
        }
        Ok(instance)
    }

    /// Opens an instance of an interface. The caller has checked that its ABI version is readable.
    pub fn open(interface: &Path, name: InstanceName) -> Result<Self> {
        let directory = &name.directory(interface);
        let own = open_counters(name.abi, directory, directory)?;
        let earlier = earlier::open(interface, directory, own.id())?;
        Ok(Self {
            directory: directory.clone(),
            name,
            program: open(directory, PROGRAM_PIN)?,
            identity: identity(directory)?,
            policy: open_mapped(directory, names::POLICY)?,
            lookup: if name.abi > abi5::LAST { Some(open_mapped(directory, names::LOOKUP)?) } else { None },
            conditions: match name.abi {
                ABI_VERSION => Some(open_mapped(directory, names::CONDITIONS)?),
                _ => None,
            },
            counters: CounterSets { own, earlier },
        })
    }

    /// The sources that have asked over a connection of TCP while the guard was in audit mode.
    pub fn connected(&self) -> Result<Vec<IpAddr>> {
        connected::sources(&self.directory)
    }

    /// The name of its directory.
    pub(super) fn name(&self) -> InstanceName {
        self.name
    }

    /// The ABI version of its maps.
    pub fn abi(&self) -> u32 {
        self.name.abi
    }

    /// Whether its maps have the ABI version of this portguard, so that it can be changed in place.
    pub fn is_current(&self) -> bool {
        self.name.abi == ABI_VERSION
    }

    /// Whether its tries and entries have the layout of this version. The index of ABI 6 is another one.
    pub(super) fn has_current_lists(&self) -> bool {
        self.lookup.is_some()
    }

    /// The calls that its list permits over UDP. A number that this portguard does not know permits none, as in the program.
    pub(super) fn udp_calls(&self) -> UdpCalls {
        let number = self.policy.read_u32(0, std::mem::offset_of!(Policy, udp_calls));
        // No list of an earlier version has such a condition.
        if self.abi() >= FIRST_WITH_UDP_CALLS {
            UdpCalls::from_number(number).unwrap_or(UdpCalls::None)
        } else {
            UdpCalls::All
        }
    }

    /// Whether its program has the code for conditions of entries.
    pub(super) fn has_conditions(&self) -> bool {
        self.conditions.as_ref().is_some_and(|conditions| conditions.len() > 1)
    }

    /// The slot of the list in force.
    pub(super) fn active(&self) -> u32 {
        match &self.lookup {
            Some(lookup) => lookup.read_u32(0, std::mem::offset_of!(Lookup, active)),
            None => self.policy.read_u32(0, std::mem::offset_of!(Policy, active_before_abi6)),
        }
    }

    /// Whether its program runs in audit mode.
    pub fn is_audit(&self) -> bool {
        self.name.audit
    }

    /// The program.
    pub fn program(&self) -> &OwnedFd {
        &self.program
    }

    /// The kernel's identification of the program.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The ring buffer of the drop log.
    pub(super) fn log(&self) -> Result<MapData> {
        open_map(&self.directory, names::LOG)
    }

    /// The directory in which the instance is pinned.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Opens the counters that are pinned in a directory. `instance` is a directory with a clock program, of any ABI
/// version.
pub(super) fn open_counters(abi: u32, directory: &Path, instance: &Path) -> Result<Counters> {
    let clock = Clock::open(&instance.join(names::CLOCK))?;
    Counters::open(abi, |name| open_map(directory, name), clock)
}

/// Pins maps of one directory also in another one.
pub(super) fn pin_again(from: &Path, to: &Path, names: impl Iterator<Item = &'static str>) -> Result<()> {
    for name in names {
        let map = bpf::get(&from.join(name)).map_err(|error| broken(from, name).caused_by(error))?;
        bpf::pin(map.as_fd(), &to.join(name)).map_err(|error| cannot_pin(to, name).caused_by(error))?;
    }
    Ok(())
}

fn open(directory: &Path, name: &str) -> Result<OwnedFd> {
    bpf::get(&directory.join(name)).map_err(|error| broken(directory, name).caused_by(error))
}

pub(super) fn open_map(directory: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(directory.join(name)).map_err(|error| broken(directory, name).caused_by(error))
}

/// The kernel's identification of the program of the instance in a directory, of any ABI version.
pub(super) fn identity(directory: &Path) -> Result<Identity> {
    let info = ProgramInfo::from_pin(directory.join(PROGRAM_PIN))
        .map_err(|error| broken(directory, PROGRAM_PIN).caused_by(error))?;
    Ok(Identity { id: info.id(), name: info.name_as_str().unwrap_or_default().to_owned(), tag: info.tag() })
}

/// The instance whose program has this number, in the directory of an interface.
pub(crate) fn live(interface: &Path, program_id: u32) -> Result<Option<InstanceName>> {
    let runs = |name: &InstanceName| {
        // A loader that was killed may have left a directory without a program.
        identity(&name.directory(interface)).is_ok_and(|identity| identity.id == program_id)
    };
    Ok(InstanceName::list(interface)?.into_iter().find(runs))
}

/// The name of any loaded program; `None` without `CAP_SYS_ADMIN`, or if there is no such program.
pub(super) fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == id)
        .and_then(|info| info.name_as_str().map(str::to_owned))
}

/// Whether a program is the program of a guard, of any version, by its name.
pub(super) fn is_of_guard(id: u32) -> bool {
    program_name(id).is_some_and(|name| is_name_of_guard(&name))
}

/// Whether a program with this name is the program of a guard, of any version.
fn is_name_of_guard(name: &str) -> bool {
    name.starts_with("portguard")
}

/// Removes the pins of an instance, and its directory. A program that a link runs continues to run.
pub(super) fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory)
        .map_err(|error| Error::failed(format!("cannot remove {}", directory.display())).caused_by(error))
}

/// The error that a pinned object of an instance cannot be used.
pub(super) fn broken(directory: &Path, name: &str) -> Error {
    Error::failed(format!("cannot use {}", directory.join(name).display()))
        .remedy("If the guard's pins are damaged, detach it and attach it again.")
}

pub(super) fn cannot_pin(directory: &Path, name: &str) -> Error {
    Error::failed(format!("cannot pin {}", directory.join(name).display()))
}
