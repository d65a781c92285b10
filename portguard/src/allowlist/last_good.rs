//! The last good lists: for each file, a copy of the last list from it that was put in force.
//!
//! ```text
//! /var/lib/portguard/               mode 0700; or what systemd names in $STATE_DIRECTORY
//!   3a17…0b-allowlist.yaml          mode 0600; the bytes of a list; the digits are the hash of its path
//! ```
//!
//! A copy is complete and on the disk before it replaces the previous copy. If a loader is killed at any moment, one of
//! the two copies is there. Only a process that holds the lock of the guards writes here.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::allowlist::{Allowlist, Checked, Origin, Sha256Sum, absolute};
use crate::error::{Error, Result};
use crate::state_directory;

/// Longer file names are cut. They only help a person who reads the directory.
const SHOWN_NAME: usize = 100;

/// Keeps a copy of a list that has been put in force. The caller holds the lock of the guards.
///
/// # Errors
/// The directory cannot be written to, or its disk is full. The previous copy remains.
pub fn keep(list: &Allowlist) -> Result<()> {
    if list.origin() == Origin::LastGood {
        return Ok(());
    }
    let directory = state_directory::path();
    let name = file_name(list.path());
    let path = directory.join(&name);
    if fs::read(&path).is_ok_and(|kept| kept == list.text()) {
        return Ok(());
    }
    let mut unfinished = name;
    unfinished.push(".new");
    let new = directory.join(unfinished);
    replace(&directory, &new, &path, list.text()).map_err(|error| {
        // An incomplete copy would take space on the disk.
        let _ = fs::remove_file(&new);
        Error::failed(format!("cannot keep a copy of the list in {}", directory.display()))
            .caused_by(error)
            .remedy(
                "The guard is on, with the new list. If the file is broken at the next start of portguard, portguard \
                 loads an older copy, if there is one. Make room there, and run: portguard reload",
            )
    })
}

/// The last good list from the file at a path, if there is one.
///
/// # Errors
/// There is a copy, but it cannot be used.
pub fn of(path: &Path) -> Result<Option<Allowlist>> {
    let path = absolute(path);
    let directory = state_directory::path();
    let copy = directory.join(file_name(&path));
    let metadata = match fs::symlink_metadata(&copy) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::failed(format!("cannot read {}", copy.display())).caused_by(error)),
    };
    let own = |metadata: &fs::Metadata| metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    if !metadata.is_file() || !own(&metadata) || !fs::metadata(&directory).is_ok_and(|it| own(&it)) {
        return Err(Error::failed(format!("{} cannot be trusted", copy.display()))
            .because("it is not a regular file that belongs to root")
            .remedy("Find out which program created it, and remove it."));
    }
    let Checked { allowlist, .. } = Allowlist::load(&copy)?;
    Ok(Some(allowlist.last_good_of(path)))
}

/// Where the last good list from the file at a path is kept, if there is one that can be used.
pub fn copy_of(path: &Path) -> Option<PathBuf> {
    of(path).ok()??;
    Some(state_directory::path().join(file_name(&absolute(path))))
}

/// Replaces a file completely, or leaves it unchanged.
fn replace(directory: &Path, new: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    // The rename is on the disk only after the directory is.
    File::open(directory)?.sync_all()
}

/// The name of the copy of the file at an absolute path.
fn file_name(path: &Path) -> OsString {
    let hash = Sha256Sum::of(path.as_os_str().as_bytes()).to_string();
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut copy = OsString::from(hash);
    copy.push("-");
    copy.push(OsStr::from_bytes(&name[..name.len().min(SHOWN_NAME)]));
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_a_name_that_tells_of_it() {
        let name = |path: &str| file_name(Path::new(path)).into_string().unwrap();
        assert!(name("/etc/portguard/allowlist.yaml").ends_with("-allowlist.yaml"));
        assert_ne!(name("/etc/portguard/allowlist.yaml"), name("/srv/portguard/allowlist.yaml"));
        assert!(name(&format!("/{}", "x".repeat(255))).len() < 255);
    }
}
