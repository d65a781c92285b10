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

use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, ProgramInfo, Xdp, loaded_programs};
use aya::{EbpfLoader, include_bytes_aligned};
use aya_obj::generated::BPF_F_MMAPABLE;
use portguard_common::address::{V4, V6};
use portguard_common::drop_log::Rate;
use portguard_common::frame::LinkType;
use portguard_common::lookup::{DirectTable, Indexed};
use portguard_common::policy::{Policy, SLOTS};
use portguard_common::source_table::Seed;
use portguard_common::{ABI_VERSION, READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::bpf;
use crate::guard::bpffs;
use crate::guard::clock::Clock;
use crate::guard::connected::{self, MAX_CONNECTED};
use crate::guard::counter_sets::CounterSets;
use crate::guard::counters::Counters;
use crate::guard::earlier;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The object file of the kernel program, compiled by the build script.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portguard.bpf.o"));

/// The maps of the policy and of the lists.
pub(super) const POLICY_MAPS: [&str; 7] = [
    names::POLICY,
    names::LISTS_V4,
    names::LISTS_V6,
    names::FRONTS_V4,
    names::FRONTS_V6,
    names::INDEXES_V4,
    names::INDEXES_V6,
];
const LOG_MAPS: [&str; 2] = [names::LOG_BUCKETS, names::LOG];
pub(super) const COUNTER_MAPS: [&str; 5] =
    [names::TOTALS, names::BUCKETS_V4, names::RECORDS_V4, names::BUCKETS_V6, names::RECORDS_V6];
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
    /// The IPv4 lists.
    pub lists_v4: Lists<V4>,
    /// The IPv6 lists.
    pub lists_v6: Lists<V6>,
    /// The counters of the instance, and the earlier sets.
    pub counters: CounterSets,
}

/// The lists of an address family. Each map has an element for each slot.
#[derive(Debug)]
pub struct Lists<A: Indexed> {
    /// The tries: an array of maps.
    pub tries: OwnedFd,
    /// The direct tables of the indexes.
    pub direct_tables: Mapped<DirectTable<A>>,
    /// The lines of the indexes: an array of maps.
    pub indexes: OwnedFd,
}

impl<A: Indexed> Lists<A> {
    /// Opens the lists of the instance in a directory, by the names of their maps.
    fn open(directory: &Path, [tries, direct_tables, indexes]: [&str; 3]) -> Result<Self> {
        let direct_tables_map = open_map(directory, direct_tables)?;
        Ok(Self {
            tries: open(directory, tries)?,
            direct_tables: Mapped::new(&direct_tables_map)
                .map_err(|error| broken(directory, direct_tables).caused_by(error))?,
            indexes: open(directory, indexes)?,
        })
    }

    /// The arrays of maps that have a slot for each list.
    pub(super) fn slots(&self) -> [&OwnedFd; 2] {
        [&self.tries, &self.indexes]
    }
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
pub enum Origin<'a> {
    /// No maps; the new counters have these sizes.
    New(Sizes),
    /// All maps of the live instance.
    Maps(&'a Instance),
    /// The policy, lists and log of the live instance; the new counters have these sizes.
    NewCounters(&'a Instance, Sizes),
    /// The counters and log of the live instance.
    NewLists(&'a Instance),
}

/// The constants that the loader writes into the program.
#[derive(Debug)]
pub(super) struct Constants {
    link_type: u32,
    audit: u32,
    log_rate: [u64; 2],
    bucket_bits: u32,
    seed: Seed,
}

/// The part of a program's order that is constant in the program, and not in its maps.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// The first header of the frames of its interface.
    pub link_type: LinkType,
    /// Whether it runs in audit mode.
    pub audit: bool,
    /// The log rate of each CPU.
    pub log_rate: Rate,
}

impl Constants {
    /// The constants for a task, and for counters with these sizes and this seed.
    pub(super) fn new(task: Task, sizes: Sizes, seed: Seed) -> Self {
        let Task { link_type, audit, log_rate: Rate { interval, depth } } = task;
        let log_rate = [interval, depth];
        Self {
            link_type: link_type as u32,
            audit: audit.into(),
            log_rate,
            bucket_bits: sizes.bucket_bits(),
            seed,
        }
    }

    /// Makes a loader write the constants into the program, and make the maps with these sizes.
    pub(super) fn give<'a>(&'a self, loader: &mut EbpfLoader<'a>, sizes: Sizes) {
        loader
            .override_global("LINK_TYPE", &self.link_type, true)
            .override_global("AUDIT", &self.audit, true)
            .override_global("LOG_RATE", &self.log_rate, true)
            .override_global("BUCKET_BITS", &self.bucket_bits, true)
            .override_global("SEED", &self.seed, true)
            .map_max_entries(names::FRONTS_V4, SLOTS as u32)
            .map_max_entries(names::FRONTS_V6, SLOTS as u32)
            .map_max_entries(names::LOG_BUCKETS, sizes.cpus())
            .map_max_entries(names::TOTALS, sizes.cpus())
            .map_max_entries(names::BUCKETS_V4, sizes.buckets())
            .map_max_entries(names::BUCKETS_V6, sizes.buckets())
            .map_max_entries(names::RECORDS_V4, sizes.records())
            .map_max_entries(names::RECORDS_V6, sizes.records());
    }
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
    pub fn load(interface: &Path, taken: &[InstanceName], task: Task, origin: Origin<'_>) -> Result<Self> {
        let name = InstanceName::next(taken, task.audit);
        let directory = name.directory(interface);
        bpffs::make_directory(&directory)?;
        Self::load_into(&directory, task, origin).and_then(|()| Self::open(interface, name)).inspect_err(
            |_| {
                // The first error is the one to report.
                let _ = remove(&directory);
            },
        )
    }

    fn load_into(directory: &Path, task: Task, origin: Origin<'_>) -> Result<()> {
        let counter_maps = || COUNTER_MAPS.into_iter().chain([names::EPOCH]);
        let policy_maps = || POLICY_MAPS.into_iter().chain(LOG_MAPS);
        match origin {
            Origin::New(_) => {}
            Origin::Maps(old) => {
                pin_again(&old.directory, directory, policy_maps().chain(counter_maps()))?;
            }
            Origin::NewCounters(old, _) => pin_again(&old.directory, directory, policy_maps())?,
            Origin::NewLists(old) => {
                pin_again(&old.directory, directory, LOG_MAPS.into_iter().chain(counter_maps()))?;
            }
        }
        let (sizes, kept_seed) = match origin {
            Origin::New(sizes) | Origin::NewCounters(_, sizes) => (sizes, None),
            Origin::Maps(old) | Origin::NewLists(old) => {
                (old.counters.own.sizes()?, Some(old.counters.own.seed()))
            }
        };
        let seed = kept_seed.map_or_else(random_seed, Ok)?;

        if let Origin::Maps(old) | Origin::NewCounters(old, _) | Origin::NewLists(old) = origin
            && connected::is_in(&old.directory)
        {
            pin_again(&old.directory, directory, [names::CONNECTED].into_iter())?;
        }
        let constants = Constants::new(task, sizes, seed);
        let mut loader = EbpfLoader::new();
        if task.audit {
            loader.map_max_entries(names::CONNECTED, MAX_CONNECTED);
            loader.map_pin_path(names::CONNECTED, directory.join(names::CONNECTED));
        }
        for name in POLICY_MAPS.into_iter().chain(LOG_MAPS).chain(COUNTER_MAPS) {
            loader.map_pin_path(name, directory.join(name));
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

        if kept_seed.is_some() {
            return Ok(());
        }
        Array::<MapData, [u64; 8]>::create(1, BPF_F_MMAPABLE)
            .map_err(|error| cannot_create().caused_by(error))?
            .pin(directory.join(names::EPOCH))
            .map_err(|error| cannot_pin(directory, names::EPOCH).caused_by(error))?;
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
            policy: Mapped::new(&open_map(directory, names::POLICY)?)
                .map_err(|error| broken(directory, names::POLICY).caused_by(error))?,
            lists_v4: Lists::open(directory, [names::LISTS_V4, names::FRONTS_V4, names::INDEXES_V4])?,
            lists_v6: Lists::open(directory, [names::LISTS_V6, names::FRONTS_V6, names::INDEXES_V6])?,
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
