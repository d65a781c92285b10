//! The earlier sets of counters of an interface. They are pinned beside the instances, and readers add them.
//!
//! A set is pinned as an earlier one before the link runs the program that writes other counters. Until then, the live
//! instance has the same set, and readers skip the earlier one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use portguard_common::{READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::bpffs;
use crate::guard::counters::{Counters, SetId};
use crate::guard::instance::{self, Instance};
use crate::guard::link::remove_directory;

/// The most earlier sets beside a guard: each takes as much memory as the counters of the guard.
pub(super) const MOST: usize = 8;

/// The beginning of the name of the directory of a set that is being removed.
const RETIRED: &str = "retired-";

/// The name of the directory of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    abi: u32,
    set: SetId,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let (abi, set) = name.strip_prefix("before-abi")?.split_once('-')?;
        Some(Self { abi: abi.parse().ok()?, set: SetId(u64::from_str_radix(set, 16).ok()?) })
    }

    fn directory(self, interface: &Path) -> PathBuf {
        interface.join(format!("before-abi{}-{}", self.abi, self.set))
    }

    /// The names of the sets in the directory of an interface.
    fn list(interface: &Path) -> Result<Vec<Self>> {
        Ok(bpffs::subdirectories(interface)?.iter().filter_map(|name| Self::parse(name)).collect())
    }
}

/// Opens the earlier sets of an interface, oldest first, without `own`, the set that the live instance writes.
/// `instance` is the directory of the live instance.
pub(super) fn open(interface: &Path, instance: &Path, own: SetId) -> Result<Vec<Counters>> {
    let mut sets = Vec::new();
    for name in Name::list(interface)? {
        // A set with an unknown ABI was not pinned by this version.
        if name.set == own || !READABLE_ABI_VERSIONS.contains(&name.abi) {
            continue;
        }
        let directory = name.directory(interface);
        match instance::open_counters(name.abi, &directory, instance) {
            Ok(counters) => sets.push(counters),
            // Readers take no lock: a reset may have removed the set in the meantime.
            Err(_) if !directory.exists() => {}
            Err(error) => return Err(error),
        }
    }
    sets.sort_by_key(Counters::began);
    Ok(sets)
}

/// Pins the counters of the live instance as an earlier set. Fails if there are too many already.
pub(super) fn keep(interface: &Path, live: &Instance) -> Result<()> {
    if live.counters.earlier.len() >= MOST {
        return Err(Error::failed(format!("the guard has {MOST} earlier sets of counters already"))
            .because("each takes as much memory as the counters of the guard")
            .remedy("Write them and start new counters with: portguard stats --reset"));
    }
    pin(interface, live)
}

/// As [`keep`], without a limit. It is for the exchange of two instances that have a set of counters each: the set of
/// the instance that becomes live is an earlier set no more.
pub(super) fn keep_in_exchange(interface: &Path, live: &Instance) -> Result<()> {
    pin(interface, live)
}

fn pin(interface: &Path, live: &Instance) -> Result<()> {
    let name = Name { abi: live.abi(), set: live.counters.own.id() };
    let directory = name.directory(interface);
    // A loader that was killed may have left a part of the directory.
    remove_directory(&directory)?;
    bpffs::make_directory(&directory)?;
    let maps = instance::counter_maps(live.abi()).iter().copied().chain([names::EPOCH]);
    instance::pin_again(live.directory(), &directory, maps).inspect_err(|_| {
        // The first error is the one to report.
        let _ = remove_directory(&directory);
    })
}

/// Removes a set, if it exists, and the remains of sets whose removal was interrupted.
pub(super) fn remove(interface: &Path, set: SetId) -> Result<()> {
    for name in Name::list(interface)?.into_iter().filter(|name| name.set == set) {
        let directory = name.directory(interface);
        // Readers take no lock: a rename hides the set from them in one step.
        let retired = interface.join(format!("{RETIRED}{set}"));
        fs::rename(&directory, &retired).map_err(|error| {
            Error::failed(format!("cannot remove {}", directory.display())).caused_by(error)
        })?;
    }
    let mut retired = bpffs::subdirectories(interface)?;
    retired.retain(|name| name.starts_with(RETIRED));
    retired.into_iter().try_for_each(|name| remove_directory(&interface.join(name)))
}

/// The claim of a reset on a set while it writes the contents of the set down. Other resets skip the set.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) set: SetId,
    _lock: Flock<File>,
}

/// Claims the earlier sets of an interface that no other process has claimed.
pub(super) fn claim(interface: &Path) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for name in Name::list(interface)? {
        let directory = name.directory(interface);
        let failed = |error| Error::failed(format!("cannot lock {}", directory.display())).caused_by(error);
        match Flock::lock(File::open(&directory).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => claims.push(Claim { set: name.set, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => {}
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_directory_tells_layout_and_set() {
        let name = Name { abi: 4, set: SetId(0x00ab_cdef_0123_4567) };
        let directory = name.directory(Path::new("/p"));
        assert_eq!(directory, Path::new("/p/before-abi4-00abcdef01234567"));
        assert_eq!(Name::parse("before-abi4-00abcdef01234567"), Some(name));
        for other in ["abi4-1", "before-abi4", "before-abix-1", "before-abi4-xyz", "link"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
