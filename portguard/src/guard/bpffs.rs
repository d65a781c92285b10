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
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use crate::error::{Error, Kind, Result};
use crate::guard::mounts;

/// Where guards are kept.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` in `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The directory of all guards on this host.
#[derive(Debug, Clone)]
pub struct PinRoot {
    root: PathBuf,
}

/// Held by the one portguard that may change guards.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

/// What a lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To change guards: nobody else holds the lock meanwhile.
    Change,
    /// To read what must not change meanwhile: others may read as well.
    Judge,
}

/// How long somebody waits for the lock.
pub struct Patience<'a> {
    /// At most.
    pub limit: Duration,
    /// Whether the wait is to end now, for another reason. Asked again and again.
    pub stopped: &'a dyn Fn() -> bool,
}

impl Default for Patience<'_> {
    /// A minute. Signals end a command by themselves.
    fn default() -> Self {
        Self { limit: Duration::from_secs(60), stopped: &|| false }
    }
}

/// How often a lock that somebody else holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Held by each service that keeps an interface guarded: as long as one does, nobody takes the guard off.
#[derive(Debug)]
pub struct Claim(Flock<File>);

impl Claim {
    /// Whether it is on this directory, and not on one that was there before.
    pub(super) fn is_at(&self, directory: &Path) -> bool {
        is_at(&self.0, directory)
    }
}

impl PinRoot {
    /// The directory if it exists: if it does not, there are no guards.
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

    /// The directory, made if it does not exist, on a file system that is mounted if it is not; `say` is told of that.
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

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until no other portguard changes guards, and keeps others from doing so while the lock is held. `waiting` is
    /// called once if there is something to wait for, with the process that holds the lock, if that is known.
    ///
    /// # Errors
    /// Somebody else holds the lock for longer than the patience lasts, or the wait was stopped.
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
                // Somebody may have removed the directory, and somebody else made another one.
                Ok(lock) if is_at(&lock, &self.root) => return Ok(Lock(lock)),
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

    /// The directories of the interfaces of all network namespaces, this one's or not, there still or gone.
    pub(super) fn all_interfaces(&self) -> Result<Vec<PathBuf>> {
        let mut directories = Vec::new();
        for namespace in self.namespaces()? {
            let interfaces = subdirectories(&namespace)?;
            directories.extend(interfaces.iter().map(|name| namespace.join(name)));
        }
        Ok(directories)
    }

    /// Removes the directories of network namespaces in which nothing is guarded.
    pub(super) fn remove_empty_namespaces(&self) {
        for namespace in self.namespaces().unwrap_or_default() {
            // The others are not empty, and stay.
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

/// Whether an open file is what is at a path now.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|file| fs::metadata(path).is_ok_and(|there| same(&file, &there)))
}

/// The process that holds a lock on a file, if `/proc` tells (proc_locks(5)): the fifth word of a line, before device and
/// inode.
fn holder_of(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (device, inode) = (metadata.dev(), metadata.ino());
    let place = format!("{:02x}:{:02x}:{inode}", libc::major(device), libc::minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == place)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    })
}

/// Claims the guard in the directory of an interface with a name, for one service. The caller holds the lock of all guards.
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

/// Whether somebody claims the guard in the directory of an interface. The caller holds the lock of all guards.
pub(super) fn is_claimed(directory: &Path) -> Result<bool> {
    let failed = |error| Error::failed(format!("cannot lock {}", directory.display())).caused_by(error);
    // Exclusive: services of ABI 4 hold a shared lock.
    match Flock::lock(File::open(directory).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Makes a directory that only root can look into, and its parents.
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

/// Fails unless a directory is root's alone: whoever else could write there could hide guards, or forge them.
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

/// Whether guards cannot be pinned any more from within the mount namespace of this process, which is the sandbox of a
/// service; a new process could. Somebody has taken away either
///
/// - the directory of pins, which alone the sandbox has let be written: the file system around it is read-only; or
/// - the BPF file system, and mounted another one.
pub fn is_cut_off() -> bool {
    let place = Path::new(BPFFS);
    let is_read_only = || statvfs(place).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
    let is_gone = matches!(is_bpffs(place), Ok(true)) && !place.join("portguard").exists();
    let mounts = || fs::read_to_string("/proc/self/mountinfo");
    is_gone && is_read_only() || mounts().is_ok_and(|mounts| hides_a_mount_of_the_host(&mounts))
}

/// A process in a mount namespace of its own keeps the file system that it has had on top of one that was mounted since, and
/// sees nothing of that but in `/proc/self/mountinfo`: what comes from the host is a mount with a master
/// (proc_pid_mountinfo(5)), and below the own one.
fn hides_a_mount_of_the_host(mounts: &str) -> bool {
    // Number, number of the parent, and whether the mount has a master, of each at this place, in no particular order.
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
    // The upper one has the one below it as its parent.
    let is_upper = |number| !here.iter().any(|(_, parent, _)| *parent == number);
    let own_is_upper = here.iter().any(|&(number, _, has_master)| is_upper(number) && !has_master);
    own_is_upper && here.iter().any(|&(number, _, has_master)| has_master && !is_upper(number))
}

/// Whether a BPF file system is where guards are kept.
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
        // Whoever stops the wait ends it at once.
        let patience = Patience { limit: Duration::from_secs(3600), stopped: &|| true };
        let error = pin_root.lock(Access::Change, &patience, |_| {}).unwrap_err();
        assert!(error.to_string().contains("a signal stopped the wait"), "{error}");
        drop(held);
        // Who only reads shares it.
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
