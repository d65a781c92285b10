//! Loads the program of an instance, with its maps.

use std::path::Path;
use std::thread;

use aya::maps::{Array, MapData};
use aya::programs::{Program, ProgramError, Xdp};
use aya::{Ebpf, EbpfLoader, Pod, include_bytes_aligned};
use aya_obj::generated::BPF_F_MMAPABLE;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;
use portguard_common::cells::CellsLayout;
use portguard_common::epoch::Epoch;
use portguard_common::lookup::Lookup;
use portguard_common::policy::Policy;
use portguard_common::source_table::WAYS;
use portguard_common::{ABI_VERSION, names};

use crate::error::{Error, Result};
use crate::guard::cells;
use crate::guard::connected::{self, MAX_CONNECTED};
use crate::guard::constants::{Constants, Task, give_lookup, give_room, in_object, in_words};
use crate::guard::hook::HookKind;
use crate::guard::instance::{
    COUNTER_MAPS, LIST_MAPS, LOG_MAPS, Origin, PROGRAM_PIN, cannot_pin, open_counters, pin_again,
};
use crate::guard::sizes::Sizes;

/// The object file of the kernel program, compiled by the build script.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portguard.bpf.o"));

/// A loader that does not know the types of the kernel, because the object has no relocations by them.
///
/// aya 0.14 reads and parses them for each loader: five megabytes, which is a seventh of the time of `attach`. (0.15 does so only for
/// objects that need it, and takes a later Rust than this project.) So the loader is made by a thread with a root of its own, a
/// directory without that file. Without the capability for that (`CAP_SYS_CHROOT`), the loader takes longer to make, and works as well.
pub(super) fn new_loader(elsewhere: &Path) -> EbpfLoader<'static> {
    let make = || {
        // Threads share their root until one parts from the others. It ends with this closure.
        let _ = unshare(CloneFlags::CLONE_FS).and_then(|()| chroot(elsewhere));
        EbpfLoader::new()
    };
    thread::scope(|scope| scope.spawn(make).join()).unwrap_or_else(|_| EbpfLoader::new())
}

/// Loads the program of a new instance and its maps, and pins them in the directory of the instance. It shares the maps that it takes over
/// with the old instance.
pub(super) fn load(directory: &Path, task: Task, origin: Origin<'_>) -> Result<()> {
    let counter_maps = || COUNTER_MAPS.into_iter().chain([names::EPOCH]);
    let list_maps = || LIST_MAPS.into_iter().chain([names::POLICY]);
    let in_force = match origin {
        Origin::New(..) | Origin::NewLists(..) => None,
        Origin::Maps(old) | Origin::NewCounters(old, _) => old.lookup.as_ref().map(in_words),
    };
    let mut loader = new_loader(directory);
    match in_force.as_deref() {
        Some(in_force) => give_lookup(&mut loader, in_force),
        None => new_array::<{ size_of::<Lookup>() / size_of::<u64>() }>(directory, names::LOOKUP)?,
    }
    match origin {
        Origin::New(_, room) => give_room(&mut loader, room),
        Origin::Maps(old) => {
            let maps = list_maps().chain(LOG_MAPS).chain(counter_maps());
            pin_again(old.directory(), directory, maps)?;
        }
        Origin::NewCounters(old, _) => {
            pin_again(old.directory(), directory, list_maps().chain(LOG_MAPS))?;
        }
        Origin::NewLists(old, room) => {
            give_room(&mut loader, room);
            pin_again(old.directory(), directory, LOG_MAPS.into_iter().chain(counter_maps()))?;
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
        && connected::is_in(old.directory())
    {
        pin_again(old.directory(), directory, [names::CONNECTED].into_iter())?;
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

    let mut load_program = |name: &str| -> Result<(), ProgramError> {
        let pin = directory.join(if name == names::CLOCK { names::CLOCK } else { PROGRAM_PIN });
        let pinned = match program(&mut object, name)? {
            Program::SchedClassifier(program) => program.load().map(|()| program.pin(pin)),
            program => {
                let program: &mut Xdp = program.try_into()?;
                program.load().map(|()| program.pin(pin))
            }
        };
        pinned?.map_err(|error| ProgramError::IOError(std::io::Error::other(error)))
    };
    match (task.hook, load_program(first_program(task.hook))) {
        (HookKind::Xdp, Err(error)) if is_unknown_flag(&error) => load_program(names::PROGRAM),
        (_, result) => result,
    }
    .map_err(refused)?;
    load_program(names::CLOCK).map_err(refused)?;
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

/// The program that is loaded for a hook. Kernels before 5.18 refuse that for XDP, and take [`names::PROGRAM`].
fn first_program(hook: HookKind) -> &'static str {
    match hook {
        HookKind::Xdp => names::PROGRAM_FRAGS,
        HookKind::Tcx => names::PROGRAM_TCX,
    }
}

/// A program of the object.
pub(super) fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramError> {
    object.program_mut(name).ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })
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
