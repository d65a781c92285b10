//! Where guards are kept: the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/portguard/            mode 0700; also the lock that changes are made under
//!   4026531840/                     a network namespace, by inode number
//!     2/                            an interface, by index (names change, and may have dots, which bpffs refuses)
//!       link                        the attachment
//!       abi1-1/                     an instance: a program and its maps, see instance.rs
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

use crate::error::{Error, Kind, Result};

const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The directory of all guards on this host.
#[derive(Debug)]
pub struct Home {
    root: PathBuf,
}

/// Held by the one portguard that may change guards.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Home {
    /// The directory if it exists: if it does not, there are no guards.
    pub fn find() -> Result<Option<Self>> {
        let root = Path::new(BPFFS).join("portguard");
        match fs::symlink_metadata(&root) {
            Ok(_) if is_bpffs(Path::new(BPFFS))? => Ok(Some(Self { root })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::failed(format!("cannot look into {}", root.display())).because(error)),
        }
    }

    /// The directory, made if it does not exist, on a file system that is mounted if it is not; `say` is told of that.
    pub fn make(say: impl FnOnce(&str)) -> Result<Self> {
        let mount_point = Path::new(BPFFS);
        if !is_bpffs(mount_point)? {
            mount(Some("bpf"), mount_point, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(
                |errno| {
                    let what = format!("cannot mount the BPF file system at {BPFFS}, where guards are kept");
                    let failed = match errno {
                        Errno::EPERM => {
                            Error::new(Kind::NotPermitted, what).because("CAP_SYS_ADMIN is missing")
                        }
                        errno => Error::failed(what).because(errno.desc()),
                    };
                    failed.remedy(format!("Mount it as root: mount -t bpf bpf {BPFFS}"))
                },
            )?;
            say(&format!("mounted the BPF file system at {BPFFS}"));
        }
        let root = mount_point.join("portguard");
        make_directory(&root)?;
        Ok(Self { root })
    }

    /// Waits until no other portguard changes guards, and keeps others from doing so while the lock is held. `waiting`
    /// is called once if there is something to wait for.
    pub fn lock(&self, waiting: impl FnOnce()) -> Result<Lock> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::failed(format!("cannot lock {}", self.root.display())).because(error)
        };
        let directory = File::open(&self.root).map_err(|error| failed(&error))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((directory, Errno::EWOULDBLOCK)) => {
                waiting();
                match Flock::lock(directory, FlockArg::LockExclusive) {
                    Ok(lock) => Ok(Lock(lock)),
                    Err((_, error)) => Err(failed(&error.desc())),
                }
            }
            Err((_, error)) => Err(failed(&error.desc())),
        }
    }

    /// The directory of an interface of this network namespace.
    pub fn interface(&self, ifindex: u32) -> Result<PathBuf> {
        Ok(self.namespace()?.join(ifindex.to_string()))
    }

    /// The interfaces of this network namespace that have a directory, by index.
    pub fn interfaces(&self) -> Result<Vec<u32>> {
        let directory = self.namespace()?;
        let mut indexes: Vec<u32> =
            subdirectories(&directory)?.iter().filter_map(|name| name.parse().ok()).collect();
        indexes.sort_unstable();
        Ok(indexes)
    }

    /// The directories of all network namespaces, this one's or not, there still or gone.
    pub(super) fn namespaces(&self) -> Result<Vec<PathBuf>> {
        Ok(subdirectories(&self.root)?.iter().map(|name| self.root.join(name)).collect())
    }

    fn namespace(&self) -> Result<PathBuf> {
        let inode = fs::metadata("/proc/self/ns/net").map(|metadata| metadata.ino()).map_err(|error| {
            Error::failed("cannot tell which network namespace this is")
                .because(format!("/proc/self/ns/net: {error}"))
                .remedy("Mount /proc.")
        })?;
        Ok(self.root.join(inode.to_string()))
    }
}

/// Makes a directory that only root can look into, and its parents.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::failed(format!("cannot make {}", path.display())).because(error))
}

/// The names of the directories in a directory; none if it does not exist.
pub(super) fn subdirectories(path: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::failed(format!("cannot read {}", path.display())).because(error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_bpffs(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(stat) => Ok(stat.filesystem_type() == BPF_FS_MAGIC),
        Err(error) => Err(Error::failed(format!("cannot look at {BPFFS}, where guards are kept"))
            .because(error.desc())
            .remedy("Mount sysfs at /sys; the kernel must have CONFIG_BPF_SYSCALL.")),
    }
}
