//! An instance: a loaded program and the maps it works with, each pinned in a directory of the instance.
//!
//! Whatever changes the program (the first attachment, an upgrade, a reset of the counters) makes a new instance, and
//! pins into its directory what it takes over from the old one. The one moment of change is when the link begins to
//! run the new program: the instance whose program the link runs is the live one, and any other is a leftover that a
//! loader left behind when it was killed.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData};
use aya::programs::{ProgramError, ProgramInfo, Xdp, loaded_programs};
use aya::{EbpfLoader, include_bytes_aligned};
use aya_obj::generated::BPF_F_MMAPABLE;
use portguard_common::address::{V4, V6};
use portguard_common::drop_log::Rate;
use portguard_common::frame::LinkType;
use portguard_common::index::{Front, Indexed};
use portguard_common::policy::{Policy, SLOTS};
use portguard_common::sources::Seed;
use portguard_common::{ABI_VERSION, READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::bpf;
use crate::guard::bpffs;
use crate::guard::clock::Clock;
use crate::guard::counter_sets::CounterSets;
use crate::guard::counters::Counters;
use crate::guard::earlier;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// The kernel half, compiled by the build script.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portguard.bpf.o"));

/// What is enforced, and which lists.
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
    /// What is enforced.
    pub policy: Mapped<Policy>,
    /// The IPv4 lists.
    pub lists_v4: Lists<V4>,
    /// The IPv6 lists.
    pub lists_v6: Lists<V6>,
    /// What was counted.
    pub counters: CounterSets,
}

/// The lists of an address family, by slot: those in force, and those that are being filled.
#[derive(Debug)]
pub struct Lists<A: Indexed> {
    /// The tries: an array of maps.
    pub tries: OwnedFd,
    /// What the indexes begin with.
    pub fronts: Mapped<Front<A>>,
    /// The lines of the indexes: an array of maps.
    pub indexes: OwnedFd,
}

impl<A: Indexed> Lists<A> {
    /// Opens the lists of an instance in a directory; the names are those of their maps.
    fn open(directory: &Path, [tries, fronts, indexes]: [&str; 3]) -> Result<Self> {
        let fronts_map = open_map(directory, fronts)?;
        Ok(Self {
            tries: open(directory, tries)?,
            fronts: Mapped::new(&fronts_map).map_err(|error| broken(directory, fronts).caused_by(error))?,
            indexes: open(directory, indexes)?,
        })
    }

    /// The arrays of maps that have a slot for each list.
    pub(super) fn slots(&self) -> [&OwnedFd; 2] {
        [&self.tries, &self.indexes]
    }
}

/// How the kernel names a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number, unique while it is loaded.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// A hash of its instructions.
    pub tag: u64,
}

/// What a new instance begins with.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// Nothing; its counters get these sizes.
    New(Sizes),
    /// All maps of the live one.
    Maps(&'a Instance),
    /// Policy and lists of the live one, and counters of its own, of these sizes.
    NewCounters(&'a Instance, Sizes),
    /// Counters and log of the live one, and a policy and lists of its own.
    NewLists(&'a Instance),
}

/// What the loader writes into the program.
#[derive(Debug)]
pub(super) struct Constants {
    link_type: u32,
    audit: u32,
    log_rate: [u64; 2],
    bucket_bits: u32,
    seed: Seed,
}

/// What a program is to do, beside what its maps say.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// What the frames of its interface begin with.
    pub link_type: LinkType,
    /// Whether it only counts what it would drop.
    pub audit: bool,
    /// How much each CPU may log.
    pub log_rate: Rate,
}

impl Constants {
    /// For a task, and counters of such sizes whose hash has this seed.
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

    /// Has them written into the program, and its maps made with these sizes.
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
    /// The layout of its maps.
    pub abi: u32,
    /// Counts up, so that a new instance can be made beside an old one.
    pub number: u32,
    /// Whether its program only counts what it would drop. In the name, so that it is true of whichever instance is
    /// live, at any moment.
    pub audit: bool,
}

/// The end of the name of an instance in audit mode.
const AUDIT_SUFFIX: &str = "-audit";

impl InstanceName {
    /// The directories of instances in the directory of an interface.
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

    /// The path of the directory.
    pub(super) fn directory(self, interface: &Path) -> PathBuf {
        let Self { abi, number, audit } = self;
        interface.join(format!("abi{abi}-{number}{}", if audit { AUDIT_SUFFIX } else { "" }))
    }

    /// The name that comes after these.
    pub(super) fn next(taken: &[Self], audit: bool) -> Self {
        let number = taken.iter().map(|name| name.number).max().map_or(1, |number| number + 1);
        Self { abi: ABI_VERSION, number, audit }
    }
}

impl Instance {
    /// Loads a new instance into a directory of an interface, beside those that are `taken`; what it keeps of an old one
    /// stays shared with it.
    pub fn load(interface: &Path, taken: &[InstanceName], task: Task, origin: Origin<'_>) -> Result<Self> {
        let name = InstanceName::next(taken, task.audit);
        let directory = name.directory(interface);
        bpffs::make_directory(&directory)?;
        Self::load_into(&directory, task, origin).and_then(|()| Self::open(interface, name)).inspect_err(
            |_| {
                // The first error is the one to tell.
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

        let constants = Constants::new(task, sizes, seed);
        let mut loader = EbpfLoader::new();
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

    /// Opens an instance of an interface, whose name says that it has a layout that this version can read.
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

    /// The name of its directory.
    pub(super) fn name(&self) -> InstanceName {
        self.name
    }

    /// The layout of its maps.
    pub fn abi(&self) -> u32 {
        self.name.abi
    }

    /// Whether its maps have the layout of this version, and it can be changed in place.
    pub fn is_current(&self) -> bool {
        self.name.abi == ABI_VERSION
    }

    /// Whether its program only counts what it would drop.
    pub fn is_audit(&self) -> bool {
        self.name.audit
    }

    /// The program.
    pub fn program(&self) -> &OwnedFd {
        &self.program
    }

    /// The kernel's name for the program.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The ring of logged drops.
    pub(super) fn log(&self) -> Result<MapData> {
        open_map(&self.directory, names::LOG)
    }

    /// Where the instance is pinned.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The counters that are pinned in a directory; `instance` has a clock program, of whatever layout.
pub(super) fn open_counters(abi: u32, directory: &Path, instance: &Path) -> Result<Counters> {
    let clock = Clock::open(&instance.join(names::CLOCK))?;
    Counters::open(abi, |name| open_map(directory, name), clock)
}

/// Pins maps of one directory in another one, too.
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

fn open_map(directory: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(directory.join(name)).map_err(|error| broken(directory, name).caused_by(error))
}

/// The kernel's name for the program of the instance in a directory, of whatever layout.
pub(super) fn identity(directory: &Path) -> Result<Identity> {
    let info = ProgramInfo::from_pin(directory.join(PROGRAM_PIN))
        .map_err(|error| broken(directory, PROGRAM_PIN).caused_by(error))?;
    Ok(Identity { id: info.id(), name: info.name_as_str().unwrap_or_default().to_owned(), tag: info.tag() })
}

/// The instance in the directory of an interface whose program has this number.
pub(crate) fn live(interface: &Path, program_id: u32) -> Result<Option<InstanceName>> {
    let runs = |name: &InstanceName| {
        // A loader that was killed may have left a directory without a program.
        identity(&name.directory(interface)).is_ok_and(|identity| identity.id == program_id)
    };
    Ok(InstanceName::list(interface)?.into_iter().find(runs))
}

/// The name of any loaded program; to ask for it takes CAP_SYS_ADMIN.
pub(super) fn program_name(id: u32) -> Option<String> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|info| info.id() == id)
        .and_then(|info| info.name_as_str().map(str::to_owned))
}

/// Whether a program with this name is a guard's, of whatever version.
pub(super) fn is_name_of_guard(name: &str) -> bool {
    name.starts_with("portguard")
}

/// Removes the pins of an instance, and its directory. What the link runs goes on running.
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
        // Odd factors lose nothing of the address.
        *word = u64::from_ne_bytes(bytes) | 1;
    }
    Ok(seed)
}

fn broken(directory: &Path, name: &str) -> Error {
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

/// Kernels before 5.18 do not know the flag for packets in several buffers, and refuse before they verify anything.
fn is_unknown_flag(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, verifier_log }
        if io_error.raw_os_error() == Some(libc::EINVAL) && verifier_log.to_string().trim().is_empty())
}

pub(super) fn refused(error: ProgramError) -> Error {
    let failed = Error::failed("the kernel refuses the guard's program");
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            // The complaint comes last, but for figures about the verifier's work.
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
