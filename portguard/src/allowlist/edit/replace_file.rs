//! Puts a new text in the place of the file of a list, in one step: whoever reads it, and whatever is killed, there is the old list or
//! the new one.
//!
//! ```text
//! /etc/portguard/
//!   allowlist.yaml
//!   .allowlist.yaml.portguard       the new text until it is complete; also the lock of the list
//! ```
//!
//! - The new file is locked as long as somebody changes the list, from before the list is read. So of two changes at once, the
//!   second one begins with the result of the first one.
//! - It is on the disk before it is renamed. What a killed process has left of it is used by the next one.
//! - Owner, group, mode, access control list and SELinux label are those of the old file. Symbolic links stay: what they lead to is
//!   replaced.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, fchown, geteuid};

use super::attributes;
use crate::allowlist::path_walk::walk;
use crate::allowlist::{Allowlist, absolute, trust};
use crate::error::{Error, Kind, Result};
use crate::printable::{printable, quoted};

/// The link in a volume of Kubernetes behind which the kubelet exchanges all files at once.
const KUBERNETES_LINK: &str = "..data";
/// The mode of a list that was not there before.
const NEW_MODE: u32 = 0o644;
/// How long a command waits for others that change the list.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits without a word.
const QUIET: Duration = Duration::from_millis(500);
/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(20);

/// The file of a list that can be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// The path as it was named.
    path: PathBuf,
    /// The directory that has the file, without symbolic links.
    directory: PathBuf,
    /// The file itself, behind all symbolic links.
    target: PathBuf,
    exists: bool,
}

impl ListFile {
    /// The file at a path. It need not exist, but its directory must.
    ///
    /// # Errors
    /// The file cannot be replaced there.
    pub fn at(path: &Path) -> Result<Self> {
        let shown = shown(path);
        let way = walk(path);
        let is_of_kubernetes = |path: &Path| path.file_name().is_some_and(|name| name == KUBERNETES_LINK);
        if way.steps.iter().any(|step| step.metadata.is_symlink() && is_of_kubernetes(&step.path)) {
            return Err(cannot_change(path)
                .because("it is in a volume of Kubernetes, which only Kubernetes writes to")
                .remedy(
                    "Change the ConfigMap; the service puts its list in force: kubectl edit configmap NAME",
                ));
        }
        let target = match (&way.missing, way.steps.last()) {
            (Some(missing), _) if missing.rest.as_os_str().is_empty() => missing.path.clone(),
            (None, Some(step)) if step.metadata.is_file() => step.path.clone(),
            // There is no directory for it, or it is no file: reading it says so.
            _ => {
                Allowlist::load(path)?;
                return Err(cannot_change(path).because("the path has changed meanwhile"));
            }
        };
        let file =
            Self { path: absolute(path), directory: way.end.clone(), target, exists: way.missing.is_none() };
        if statvfs(&file.directory).is_ok_and(|it| it.flags().contains(FsFlags::ST_RDONLY)) {
            return Err(read_only(path));
        }
        if !file.exists
            && let Some((what, help)) = trust::of_way(&shown, &way).into_iter().next()
        {
            return Err(cannot_change(path)
                .because(format!("{what}: {help}"))
                .of_kind(Kind::InvalidAllowlist));
        }
        if file.exists {
            // The rights of the directory decide who may replace a file. Whoever may not write to the file has no business
            // with it all the same.
            faccessat(AT_FDCWD, &file.target, AccessFlags::W_OK, AtFlags::AT_EACCESS)
                .map_err(|errno| not_writable(path, errno.into()))?;
        }
        Ok(file)
    }

    /// Whether there is a file.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// Takes the lock of the list, and waits while another process changes it. If it must wait, it calls `waiting` once.
    ///
    /// # Errors
    /// No file can be made beside it, or another process holds the lock for too long.
    pub fn lock(self, waiting: impl FnOnce()) -> Result<LockedListFile> {
        let Self { path, .. } = self;
        let (begun, mut waiting) = (Instant::now(), Some(waiting));
        loop {
            let file = Self::at(&path)?;
            let new_path = file.new_path();
            let new = open_new(&path, &new_path)?;
            match Flock::lock(new, FlockArg::LockExclusiveNonblock) {
                // The one before has renamed or removed it, or a link leads to another place by now.
                Ok(new) if !is_at(&new, &new_path) || Self::at(&path)? != file => {}
                Ok(new) => return Ok(LockedListFile { file, new, new_path, is_replaced: false }),
                Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                    if begun.elapsed() > PATIENCE {
                        return Err(cannot_change(&path)
                            .because("another process has changed it for more than a minute")
                            .remedy(format!("See which one: fuser -v {}", quoted(&shown(&new_path)))));
                    }
                    // Most changes take less, and nobody has to hear of them.
                    if begun.elapsed() > QUIET
                        && let Some(waiting) = waiting.take()
                    {
                        waiting();
                    }
                    thread::sleep(PAUSE);
                }
                Err((_, errno)) => return Err(cannot_change(&path).caused_by(io::Error::from(errno))),
            }
        }
    }

    /// The path of the file that is to take its place.
    fn new_path(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(".portguard");
        self.directory.join(name)
    }
}

/// The file of a list, which nobody else changes by portguard until this is dropped.
#[derive(Debug)]
pub struct LockedListFile {
    file: ListFile,
    new: Flock<File>,
    new_path: PathBuf,
    is_replaced: bool,
}

impl LockedListFile {
    /// Whether there is a file.
    pub fn exists(&self) -> bool {
        self.file.exists
    }

    /// Puts a text in the place of the file.
    ///
    /// # Errors
    /// The old file stays.
    pub fn replace(mut self, text: &[u8]) -> Result<()> {
        self.try_replace(text).map_err(|error| {
            let failed = cannot_change(&self.file.path);
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EBUSY) => {
                    failed.because("the file is a mount of its own, and cannot be replaced").remedy(
                        "Mount its directory instead of the file, or change the list where it comes from.",
                    )
                }
                Some(Errno::EPERM) => failed.caused_by(error).remedy(format!(
                    "See whether its attributes forbid it (i or a): lsattr -d {} {}",
                    quoted(&shown(&self.file.target)),
                    quoted(&shown(&self.file.directory))
                )),
                _ => failed.caused_by(error).remedy("The old list is still there."),
            }
        })?;
        let directory = File::open(&self.file.directory).and_then(|directory| directory.sync_all());
        directory.map_err(|error| {
            Error::failed(format!("{} was changed, but may not be on the disk yet", shown(&self.file.path)))
                .caused_by(error)
        })
    }

    fn try_replace(&mut self, text: &[u8]) -> io::Result<()> {
        let Self { file: ListFile { target, exists, .. }, new, new_path, .. } = self;
        new.set_len(0)?;
        new.write_all(text)?;
        if *exists {
            let old = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&*target)?;
            let (wanted, has) = (old.metadata()?, new.metadata()?);
            let differs = |of: fn(&Metadata) -> u32| Some(of(&wanted)).filter(|wanted| *wanted != of(&has));
            let (owner, group) = (differs(Metadata::uid), differs(Metadata::gid));
            if owner.is_some() || group.is_some() {
                fchown(new.as_fd(), owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
            }
            new.set_permissions(wanted.permissions())?;
            attributes::copy(&old, new)?;
        } else {
            new.set_permissions(fs::Permissions::from_mode(NEW_MODE))?;
        }
        new.sync_all()?;
        fs::rename(&*new_path, &*target)?;
        self.is_replaced = true;
        Ok(())
    }
}

impl Drop for LockedListFile {
    fn drop(&mut self) {
        if !self.is_replaced {
            // While it is locked, so that it is not that of another process.
            let _ = fs::remove_file(&self.new_path);
        }
    }
}

/// Opens the file that is to take the place of a list, or makes it.
fn open_new(path: &Path, new_path: &Path) -> Result<File> {
    let new = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(new_path)
        .map_err(|error| not_writable(path, error))?;
    let metadata = new.metadata().map_err(|error| not_writable(path, error))?;
    // In a shared directory, others can make a file of that name.
    let is_own = metadata.uid() == geteuid().as_raw() || metadata.uid() == 0;
    if !metadata.is_file() || !is_own || metadata.nlink() > 1 {
        return Err(cannot_change(path)
            .because(format!("{} is in the way, and is not portguard's", shown(new_path)))
            .remedy(format!(
                "Find out which program created it, and remove it: rm {}",
                quoted(&shown(new_path))
            )));
    }
    Ok(new)
}

/// Whether an open file is the one that has this path now.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn cannot_change(path: &Path) -> Error {
    Error::failed(format!("cannot change {}", shown(path)))
}

fn read_only(path: &Path) -> Error {
    cannot_change(path).because("its file system is mounted read-only").remedy(format!(
        "Change the list where it comes from, or make the mount writable: findmnt --target {}",
        quoted(&shown(path))
    ))
}

fn not_writable(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        return read_only(path);
    }
    let is_root = geteuid().is_root();
    let failed = cannot_change(path).caused_by(error);
    match failed.kind() {
        Kind::NotPermitted if is_root => {
            let path = quoted(&shown(path)).into_owned();
            failed.remedy(format!(
                "See whether attributes of the file or of its directory forbid it: lsattr {path}"
            ))
        }
        Kind::NotPermitted => failed.remedy("Run portguard as root, or as the owner of the list."),
        _ => failed.remedy("The list is still as it was."),
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
