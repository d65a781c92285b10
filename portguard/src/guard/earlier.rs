//! The earlier sets of counters of an interface: pinned beside the instances, for readers to add.
//!
//! A set is pinned before the link runs the program that counts into others, so it may be there and still be written: then
//! the live instance has the same set, and it is left out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use portguard_common::{READABLE_ABI_VERSIONS, names};

use crate::error::{Error, Result};
use crate::guard::bpffs;
use crate::guard::counters::{Counters, SetId};
use crate::guard::instance::{self, COUNTER_MAPS, Instance};
use crate::guard::link::remove_directory;

/// More of them are not kept beside a guard: each takes as much memory as the counters of the guard.
pub(super) const MOST: usize = 8;

/// The name of the directory of a set that is being removed begins so.
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

    /// Those in the directory of an interface.
    fn list(interface: &Path) -> Result<Vec<Self>> {
        Ok(bpffs::subdirectories(interface)?.iter().filter_map(|name| Self::parse(name)).collect())
    }
}

/// Opens the earlier sets of an interface, oldest first, but for the one that the live instance writes. `instance` is the
/// directory of the live one.
pub(super) fn open(interface: &Path, instance: &Path, own: SetId) -> Result<Vec<Counters>> {
    let mut sets = Vec::new();
    for name in Name::list(interface)? {
        // One of a version that this one cannot read is none that it has put there.
        if name.set == own || !READABLE_ABI_VERSIONS.contains(&name.abi) {
            continue;
        }
        let directory = name.directory(interface);
        match instance::open_counters(name.abi, &directory, instance) {
            Ok(counters) => sets.push(counters),
            // Who only looks takes no lock: a reset may have removed it just now.
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

/// The same, however many there are: the counters of an instance that another one with a set of its own is about to
/// replace, which is no earlier set any more then.
pub(super) fn keep_in_exchange(interface: &Path, live: &Instance) -> Result<()> {
    pin(interface, live)
}

fn pin(interface: &Path, live: &Instance) -> Result<()> {
    let name = Name { abi: live.abi(), set: live.counters.own.id() };
    let directory = name.directory(interface);
    // A loader that was killed may have left some of it.
    remove_directory(&directory)?;
    bpffs::make_directory(&directory)?;
    let maps = COUNTER_MAPS.into_iter().chain([names::EPOCH]);
    instance::pin_again(live.directory(), &directory, maps).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = remove_directory(&directory);
    })
}

/// Removes a set, if it is there; also what is left of one whose removal was cut short.
pub(super) fn remove(interface: &Path, set: SetId) -> Result<()> {
    for name in Name::list(interface)?.into_iter().filter(|name| name.set == set) {
        let directory = name.directory(interface);
        // Out of the sight of readers in one step: they take no lock.
        let retired = interface.join(format!("{RETIRED}{set}"));
        fs::rename(&directory, &retired).map_err(|error| {
            Error::failed(format!("cannot remove {}", directory.display())).caused_by(error)
        })?;
    }
    let mut retired = bpffs::subdirectories(interface)?;
    retired.retain(|name| name.starts_with(RETIRED));
    retired.into_iter().try_for_each(|name| remove_directory(&interface.join(name)))
}

/// Held by a reset for as long as it writes down what a set held: another reset leaves that set to it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) set: SetId,
    _lock: Flock<File>,
}

/// Claims the earlier sets of an interface that nobody else has claimed.
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
