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

use aya::Pod;
use aya::include_bytes_aligned;
use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, ProgramInfo, Xdp, loaded_programs};
use aya_obj::generated::BPF_F_MMAPABLE;
use portguard_common::calls::UdpCalls;
use portguard_common::cells::CellsLayout;
use portguard_common::conditions::Conditions;
use portguard_common::epoch::Epoch;
use portguard_common::lookup::Lookup;
use portguard_common::policy::Policy;
use portguard_common::source_table::WAYS;
use portguard_common::{ABI_VERSION, READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::abi5;
use crate::guard::bpf;
use crate::guard::bpffs;
use crate::guard::cells;
use crate::guard::clock::Clock;
use crate::guard::connected::{self, MAX_CONNECTED};
use crate::guard::constants::{Constants, Task, give_lookup, give_room, in_object, in_words};
use crate::guard::counter_sets::CounterSets;
use crate::guard::counters::Counters;
use crate::guard::earlier;
use crate::guard::list_maps::open_mapped;
use crate::guard::lists::Capacities;
use crate::guard::loader;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The object file of the kernel program, compiled by the build script.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portguard.bpf.o"));

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
const LOG_MAPS: [&str; 2] = [names::LOG_BUDGET, names::LOG];
const COUNTER_MAPS: [&str; 3] = [names::CELLS, names::REQUESTS_V4, names::REQUESTS_V6];

/// The maps with the counters of an ABI, without `EPOCH`.
pub(super) fn counter_maps(abi: u32) -> &'static [&'static str] {
    if abi <= abi5::LAST { &abi5::COUNTER_MAPS } else { &COUNTER_MAPS }
}

/// The first ABI whose lists can restrict the calls over UDP.
const FIRST_WITH_UDP_CALLS: u32 = 8;

/// The file name of the program's pin.
const PROGRAM_PIN: &str = "program";

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
        let loaded = Self::load_into(&directory, task, origin).and_then(|()| Self::open(interface, name));
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

    fn load_into(directory: &Path, task: Task, origin: Origin<'_>) -> Result<()> {
        let counter_maps = || COUNTER_MAPS.into_iter().chain([names::EPOCH]);
        let list_maps = || LIST_MAPS.into_iter().chain([names::POLICY]);
        let in_force = match origin {
            Origin::New(..) | Origin::NewLists(..) => None,
            Origin::Maps(old) | Origin::NewCounters(old, _) => old.lookup.as_ref().map(in_words),
        };
        let mut loader = loader::new(directory);
        match in_force.as_deref() {
            Some(in_force) => give_lookup(&mut loader, in_force),
            None => new_array::<{ size_of::<Lookup>() / size_of::<u64>() }>(directory, names::LOOKUP)?,
        }
        match origin {
            Origin::New(_, room) => give_room(&mut loader, room),
            Origin::Maps(old) => {
                let maps = list_maps().chain(LOG_MAPS).chain(counter_maps());
                pin_again(&old.directory, directory, maps)?;
            }
            Origin::NewCounters(old, _) => {
                pin_again(&old.directory, directory, list_maps().chain(LOG_MAPS))?;
            }
            Origin::NewLists(old, room) => {
                give_room(&mut loader, room);
                pin_again(&old.directory, directory, LOG_MAPS.into_iter().chain(counter_maps()))?;
            }
        }
        let (sizes, kept_seed) = match origin {
            Origin::New(sizes, _) | Origin::NewCounters(_, sizes) => (sizes, None),
            Origin::Maps(old) | Origin::NewLists(old, _) => {
                (old.counters.own.sizes()?, Some(old.counters.own.seed()))
            }
        };
        let seed = kept_seed.map_or_else(random_seed, Ok)?;

        if let Origin::Maps(old) | Origin::NewCounters(old, _) | Origin::NewLists(old, _) = origin
            && connected::is_in(&old.directory)
        {
            pin_again(&old.directory, directory, [names::CONNECTED].into_iter())?;
        }
        if kept_seed.is_none() {
            let cells = cells::new_map(sizes).map_err(|error| cannot_create_cells(sizes).caused_by(error))?;
            cells
                .pin(directory.join(names::CELLS))
                .map_err(|error| cannot_pin(directory, names::CELLS).caused_by(error))?;
        }
        let constants = Constants::new(task, sizes, seed);
        if task.audit {
            loader.map_max_entries(names::CONNECTED, MAX_CONNECTED);
            loader.map_pin_path(names::CONNECTED, directory.join(names::CONNECTED));
        }
        for name in LIST_MAPS.into_iter().chain(LOG_MAPS).chain(COUNTER_MAPS) {
            loader.map_pin_path(in_object(name), directory.join(name));
        }
        constants.give(&mut loader, sizes);
        let mut object = loader.load(OBJECT).map_err(|error| cannot_create().caused_by(error))?;

        let mut load = |name: &str| -> Result<(), ProgramError> {
            let program: &mut Xdp = object
                .program_mut(name)
                .ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?
                .try_into()?;
            program.load()?;
            let pin = if name == names::CLOCK { names::CLOCK } else { PROGRAM_PIN };
            program
                .pin(directory.join(pin))
                .map_err(|error| ProgramError::IOError(std::io::Error::other(error)))
        };
        match load(names::PROGRAM_FRAGS) {
            Err(error) if is_unknown_flag(&error) => load(names::PROGRAM),
            result => result,
        }
        .map_err(refused)?;
        load(names::CLOCK).map_err(refused)?;
        drop(object);

        if let Origin::New(..) | Origin::NewLists(..) = origin {
            new_array::<{ size_of::<Policy>() / size_of::<u64>() }>(directory, names::POLICY)?;
        }
        if kept_seed.is_some() {
            return Ok(());
        }
        new_array::<{ size_of::<Epoch>() / size_of::<u64>() }>(directory, names::EPOCH)?;
        open_counters(ABI_VERSION, directory, directory)?.begin(seed)
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

/// Whether a program with this name is the program of a guard, of any version.
pub(super) fn is_name_of_guard(name: &str) -> bool {
    name.starts_with("portguard")
}

/// Removes the pins of an instance, and its directory. A program that a link runs continues to run.
pub(super) fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory)
        .map_err(|error| Error::failed(format!("cannot remove {}", directory.display())).caused_by(error))
}

/// Makes and pins an array with one element of so many words.
fn new_array<const WORDS: usize>(directory: &Path, name: &str) -> Result<()>
where
    [u64; WORDS]: Pod,
{
    Array::<MapData, [u64; WORDS]>::create(1, BPF_F_MMAPABLE)
        .map_err(|error| cannot_create().caused_by(error))?
        .pin(directory.join(name))
        .map_err(|error| cannot_pin(directory, name).caused_by(error))
}

fn random_seed() -> Result<[u64; 5]> {
    let mut seed = [0_u64; 5];
    for word in &mut seed {
        let mut bytes = [0_u8; 8];
        // SAFETY: the buffer is writable for its length.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got != 8 {
            return Err(Error::failed("cannot get random numbers").caused_by(std::io::Error::last_os_error()));
        }
        // A multiplication by an odd factor can be inverted, so it loses no bits of the address.
        *word = u64::from_ne_bytes(bytes) | 1;
    }
    Ok(seed)
}

/// The error that a pinned object of an instance cannot be used.
pub(super) fn broken(directory: &Path, name: &str) -> Error {
    Error::failed(format!("cannot use {}", directory.join(name).display()))
        .remedy("If the guard's pins are damaged, detach it and attach it again.")
}

fn cannot_pin(directory: &Path, name: &str) -> Error {
    Error::failed(format!("cannot pin {}", directory.join(name).display()))
}

fn cannot_create_cells(sizes: Sizes) -> Error {
    /// Kernels such as 5.10 have no larger elements (`array_map_alloc_check` in `kernel/bpf/arraymap.c`).
    const LIMIT: usize = 4 << 20;
    let error = cannot_create();
    if CellsLayout::new(sizes.bucket_bits()).bytes() <= LIMIT {
        return error;
    }
    let most = (0..).take_while(|bits| CellsLayout::new(*bits).bytes() <= LIMIT).last().unwrap_or(0);
    let (sources, most) = (sizes.sources(), (WAYS as u32) << most);
    error.remedy(format!(
        "Tables of {sources} sources take more than 4 MiB on each CPU, and some kernels permit no more: use --sources {most}."
    ))
}

pub(super) fn cannot_create() -> Error {
    Error::failed("cannot create the maps of the guard")
        .remedy("On kernels before 5.11 the limit on locked memory must allow it (ulimit -l unlimited).")
}

/// Whether the kernel does not know the flag for packets in several buffers. Kernels before 5.18 refuse it before they
/// verify the program, so the verifier's log is empty.
fn is_unknown_flag(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, verifier_log }
        if io_error.raw_os_error() == Some(libc::EINVAL) && verifier_log.to_string().trim().is_empty())
}

pub(super) fn refused(error: ProgramError) -> Error {
    let failed = Error::failed("the kernel refuses the guard's program");
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            // The cause is the last line, apart from figures about the verifier's work.
            let log = verifier_log.to_string();
            let figures = ["verification time", "stack depth", "processed "];
            let complaint = log
                .lines()
                .rev()
                .map(str::trim)
                .find(|line| !line.is_empty() && !figures.iter().any(|figure| line.starts_with(figure)));
            failed.because(match complaint {
                Some(complaint) => format!("{io_error}; the verifier says: {complaint}"),
                None => io_error.to_string(),
            })
        }
        error => failed.caused_by(error),
    }
}
