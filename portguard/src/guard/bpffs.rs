//! The pins of guards in the BPF file system, and the lock for changes.
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
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use crate::error::{Error, Kind, Result};
use crate::guard::{link, mounts};

/// The mount point of the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The directory of all guards on this host.
#[derive(Debug, Clone)]
pub struct PinRoot {
    root: PathBuf,
}

/// A lock on the directory of all guards, see [`Access`]. It is released on drop.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// The purpose of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To change guards: the lock is exclusive.
    Change,
    /// To read state that must not change in the meantime: the lock is shared with other readers.
    Judge,
}

/// How long a caller waits for the lock.
pub struct Patience<'a> {
    /// The longest wait.
    pub limit: Duration,
    /// Whether the wait must end now for another reason. It is called before each pause of the wait.
    pub stopped: &'a dyn Fn() -> bool,
}

impl Default for Patience<'_> {
    /// One minute, without another condition: a signal ends a command in any case.
    fn default() -> Self {
        Self { limit: Duration::from_secs(60), stopped: &|| false }
    }
}

/// The pause between two attempts to take a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The claim of a service on the guard of an interface. While a service holds it, commands do not detach the guard.
#[derive(Debug)]
pub struct Claim(Flock<File>);

impl Claim {
    /// Whether the claim is on this directory, and not on an earlier directory with the same path.
    pub(super) fn is_at(&self, directory: &Path) -> bool {
        is_at(&self.0, directory)
    }
}

impl PinRoot {
    /// The directory of all guards; `None` if it does not exist, and there are no guards.
    pub fn find() -> Result<Option<Self>> {
        if !is_bpffs(Path::new(BPFFS))? {
            mounts::require_host()?;
            return Ok(None);
        }
        let root = Path::new(BPFFS).join("portguard");
        match fs::symlink_metadata(&root) {
            Ok(metadata) => {
                require_private(&root, &metadata)?;
                Ok(Some(Self { root }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::failed(format!("cannot read {}", root.display())).caused_by(error)),
        }
    }

    /// The directory of all guards. It is made if it does not exist. If the BPF file system is not mounted, it is
    /// mounted, and `say` gets a message about that.
    pub fn make(say: impl FnOnce(&str)) -> Result<Self> {
        let mount_point = Path::new(BPFFS);
        if !is_bpffs(mount_point)? {
            mounts::require_host()?;
            mount(Some("bpf"), mount_point, Some("bpf"), MsFlags::empty(), Some("mode=0700")).map_err(
                |errno| {
                    let what = format!("cannot mount the BPF file system at {BPFFS}, where guards are kept");
                    let failed = match errno {
                        Errno::EPERM => {
                            Error::new(Kind::NotPermitted, what).because("CAP_SYS_ADMIN is missing")
                        }
                        errno => Error::failed(what).caused_by(io::Error::from(errno)),
                    };
                    failed.remedy(format!("Mount it as root: mount -t bpf bpf {BPFFS}"))
                },
            )?;
            say(&format!("mounted the BPF file system at {BPFFS}"));
        } else {
            mounts::require_lasting()?;
        }
        make_directory(&mount_point.join("portguard"))?;
        Self::find()?.ok_or_else(|| Error::failed(format!("{BPFFS} was replaced in the meantime")))
    }

    /// The path of the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the lock, and waits while another process holds it. If it must wait, it calls `waiting` once with the
    /// process that holds the lock, if that is known.
    ///
    /// # Errors
    /// Another process holds the lock for longer than the limit of `patience`, or the wait was stopped.
    pub fn lock(
        &self,
        access: Access,
        patience: &Patience<'_>,
        waiting: impl FnOnce(Option<u32>),
    ) -> Result<Lock> {
        let what = format!("cannot lock {}", self.root.display());
        let argument = match access {
            Access::Change => FlockArg::LockExclusiveNonblock,
            Access::Judge => FlockArg::LockSharedNonblock,
        };
        let begun = Instant::now();
        let mut waiting = Some(waiting);
        loop {
            let directory = File::open(&self.root).map_err(|error| Error::failed(&what).caused_by(error))?;
            let holder = match Flock::lock(directory, argument) {
                // Other processes may have removed the directory and made a new one since it was opened.
                Ok(lock) if is_at(&lock, &self.root) => {
                    if access == Access::Change {
                        link::detach_abandoned(self);
                    }
                    return Ok(Lock(lock));
                }
                Ok(_) => continue,
                Err((directory, Errno::EWOULDBLOCK)) => holder_of(&directory),
                Err((_, errno)) => return Err(Error::failed(&what).caused_by(io::Error::from(errno))),
            };
            if (patience.stopped)() {
                return Err(Error::failed(what).because("a signal stopped the wait for another portguard"));
            }
            if begun.elapsed() > patience.limit {
                let who = holder.map_or("another process".to_owned(), |process| format!("process {process}"));
                return Err(Error::failed(what)
                    .because(format!("{who} has held the lock for more than {} s", patience.limit.as_secs()))
                    .remedy("Nothing was changed. Find out what that process waits for, or end it."));
            }
            if let Some(waiting) = waiting.take() {
                waiting(holder);
            }
            thread::sleep(LOCK_POLL);
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

    /// The directories of the interfaces of all network namespaces, also of interfaces that are gone.
    pub(super) fn all_interfaces(&self) -> Result<Vec<PathBuf>> {
        let mut directories = Vec::new();
        for namespace in self.namespaces()? {
            let interfaces = subdirectories(&namespace)?;
            directories.extend(interfaces.iter().map(|name| namespace.join(name)));
        }
        Ok(directories)
    }

    /// Removes the directories of network namespaces that have no guard.
    pub(super) fn remove_empty_namespaces(&self) {
        for namespace in self.namespaces().unwrap_or_default() {
            // This fails for directories that are not empty, and they remain.
            let _ = fs::remove_dir(namespace);
        }
    }

    fn namespaces(&self) -> Result<Vec<PathBuf>> {
        Ok(subdirectories(&self.root)?.iter().map(|name| self.root.join(name)).collect())
    }

    fn namespace(&self) -> Result<PathBuf> {
        Ok(self.root.join(network_namespace()?.to_string()))
    }
}

/// The inode number of the network namespace of this thread.
pub fn network_namespace() -> Result<u64> {
    const PATH: &str = "/proc/thread-self/ns/net";
    fs::metadata(PATH).map(|metadata| metadata.ino()).map_err(|error| {
        Error::failed("cannot identify this network namespace")
            .because(format!("{PATH}: {error}"))
            .remedy("Mount /proc.")
    })
}

/// Whether an open file is the one that is at a path now.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|file| fs::metadata(path).is_ok_and(|there| same(&file, &there)))
}

/// The process that holds a lock on a file.
fn holder_of(file: &File) -> Option<u32> {
    /// The kernel hands the list of locks over in pieces. Other locks that are taken or released between two of them can hide
    /// this one.
    const ATTEMPTS: u32 = 10;
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let place = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    (0..ATTEMPTS).find_map(|_| holder_at(&place))
}

/// The process that holds a lock at a place, from `/proc/locks` (proc_locks(5)): the fifth word of a line, before device and
/// inode.
fn holder_at(place: &str) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == place)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    })
}

/// Claims the guard in a directory for one service; `name` is the name of its interface. The caller holds the lock of
/// all guards.
pub(super) fn claim(name: &str, directory: &Path) -> Result<Claim> {
    let failed = |error| Error::failed(format!("cannot lock {}", directory.display())).caused_by(error);
    match Flock::lock(File::open(directory).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Claim(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::failed(format!(
            "{name}: another service keeps the guard"
        ))
        .remedy(
            "Only one service can keep an interface. Stop the other service, or leave the interface to it.",
        )),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Whether a service claims the guard in the directory of an interface. The caller holds the lock of all guards.
pub(super) fn is_claimed(directory: &Path) -> Result<bool> {
    let failed = |error| Error::failed(format!("cannot lock {}", directory.display())).caused_by(error);
    // Exclusive: services of ABI 4 hold a shared lock.
    match Flock::lock(File::open(directory).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Makes a directory with mode 0700, and its parents.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::failed(format!("cannot make {}", path.display())).caused_by(error))
}

/// The names of the directories in a directory; none if it does not exist.
pub(super) fn subdirectories(path: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::failed(format!("cannot read {}", path.display())).caused_by(error);
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

/// Fails unless only root has access to a directory: another user who could write to it could hide guards, or forge
/// them.
fn require_private(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    let owner = metadata.uid();
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() && (owner == 0 || owner == geteuid().as_raw()) && mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::failed(format!("{} cannot be trusted", path.display()))
        .because(format!("it has owner {owner} and mode {mode:04o}, but must have owner root and mode 0700"))
        .remedy("Find out which program created it, remove it, and attach again."))
}

/// Whether this process can no longer pin guards, although a new process could. Its mount namespace is then the sandbox
/// of a service, and one of these has happened:
///
/// - The directory of pins was removed. It was the only place that the sandbox could write to: the file system around it
///   is read-only.
/// - The BPF file system was unmounted, and another one was mounted.
pub fn is_cut_off() -> bool {
    let place = Path::new(BPFFS);
    let is_read_only = || statvfs(place).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
    let is_gone = matches!(is_bpffs(place), Ok(true)) && !place.join("portguard").exists();
    let mounts = || fs::read_to_string("/proc/self/mountinfo");
    is_gone && is_read_only() || mounts().is_ok_and(|mounts| hides_a_mount_of_the_host(&mounts))
}

/// Whether a mount of the host is hidden below a mount of this process. A process in a mount namespace of its own keeps
/// its file system on top of one that the host mounts later. Only `/proc/self/mountinfo` shows the later one: a mount
/// from the host has a master (proc_pid_mountinfo(5)), and is below the mount of the process.
fn hides_a_mount_of_the_host(mounts: &str) -> bool {
    // The mounts at this place, in no particular order: number, number of the parent, and whether the mount has a
    // master.
    let here: Vec<(&str, &str, bool)> = mounts
        .lines()
        .filter_map(|line| {
            let (fields, _) = line.split_once(" - ")?;
            let fields: Vec<&str> = fields.split(' ').collect();
            let [number, parent, _device, _root, place, _options, optional @ ..] = &fields[..] else {
                return None;
            };
            let has_master = optional.iter().any(|field| field.starts_with("master:"));
            (*place == BPFFS).then_some((*number, *parent, has_master))
        })
        .collect();
    // A mount has the mount below it as its parent.
    let is_upper = |number| !here.iter().any(|(_, parent, _)| *parent == number);
    let own_is_upper = here.iter().any(|&(number, _, has_master)| is_upper(number) && !has_master);
    own_is_upper && here.iter().any(|&(number, _, has_master)| has_master && !is_upper(number))
}

/// Whether a BPF file system is mounted at [`BPFFS`].
pub fn is_mounted() -> Result<bool> {
    is_bpffs(Path::new(BPFFS))
}

fn is_bpffs(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(stat) => Ok(stat.filesystem_type() == BPF_FS_MAGIC),
        Err(error) => Err(Error::failed(format!("cannot read {BPFFS}, where guards are kept"))
            .caused_by(io::Error::from(error))
            .remedy("Mount sysfs at /sys; the kernel must have CONFIG_BPF_SYSCALL.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_somebody_holds_is_waited_for_so_long_and_no_longer() {
        let root = tempfile::tempdir().unwrap();
        let pin_root = PinRoot { root: root.path().to_owned() };
        let patience = Patience { limit: Duration::from_millis(50), stopped: &|| false };
        let held = pin_root.lock(Access::Change, &patience, |_| panic!("nobody to wait for")).unwrap();
        let mut told = None;
        let error = pin_root.lock(Access::Judge, &patience, |holder| told = Some(holder)).unwrap_err();
        let process = std::process::id();
        assert_eq!(told, Some(Some(process)));
        assert!(error.to_string().contains(&format!("process {process} has held the lock")), "{error}");
        // `stopped` ends the wait at once.
        let patience = Patience { limit: Duration::from_secs(3600), stopped: &|| true };
        let error = pin_root.lock(Access::Change, &patience, |_| {}).unwrap_err();
        assert!(error.to_string().contains("a signal stopped the wait"), "{error}");
        drop(held);
        // Readers share the lock.
        let patience = Patience { limit: Duration::ZERO, stopped: &|| false };
        let _one = pin_root.lock(Access::Judge, &patience, |_| {}).unwrap();
        let _other = pin_root.lock(Access::Judge, &patience, |_| {}).unwrap();
        assert!(pin_root.lock(Access::Change, &patience, |_| {}).is_err());
    }

    #[test]
    fn a_lock_on_a_directory_that_was_made_again_is_on_the_new_one() {
        let root = tempfile::tempdir().unwrap();
        let pin_root = PinRoot { root: root.path().join("portguard") };
        fs::create_dir(&pin_root.root).unwrap();
        let patience = Patience { limit: Duration::ZERO, stopped: &|| false };
        let _old = pin_root.lock(Access::Change, &patience, |_| {}).unwrap();
        fs::remove_dir(&pin_root.root).unwrap();
        fs::create_dir(&pin_root.root).unwrap();
        let _new = pin_root.lock(Access::Change, &patience, |_| {}).unwrap();
        assert!(pin_root.lock(Access::Change, &patience, |_| {}).is_err());
    }

    #[test]
    fn a_mount_of_the_host_below_the_own_one_is_seen() {
        let sysfs = "20 1 0:20 / /sys rw shared:2 - sysfs sysfs rw\n";
        let from_host = "40 20 0:30 / /sys/fs/bpf rw,nosuid master:9 - bpf bpf rw,mode=700\n";
        let on_top = "31 40 0:29 / /sys/fs/bpf rw,nosuid - bpf bpf rw,mode=700\n";
        let own = "31 20 0:29 / /sys/fs/bpf rw,nosuid - bpf bpf rw,mode=700\n";
        let on_own = "40 31 0:30 / /sys/fs/bpf rw,nosuid master:9 - bpf bpf rw,mode=700\n";
        let pins = "50 31 0:29 /portguard /sys/fs/bpf/portguard rw - bpf bpf rw,mode=700\n";
        for (mounts, expected) in [
            (vec![], false),
            (vec![own], false),
            (vec![own, pins], false),
            (vec![from_host], false),
            (vec![from_host, on_top], true),
            // The kernel lists them in either order.
            (vec![on_top, pins, from_host], true),
            (vec![own, on_own], false),
        ] {
            let text = [sysfs].into_iter().chain(mounts.iter().copied()).collect::<String>();
            assert_eq!(hides_a_mount_of_the_host(&text), expected, "{text}");
        }
    }
}
