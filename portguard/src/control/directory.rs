//! The directory that has the socket of each service.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::{Error, Result};

/// The directory of the sockets, unless systemd names another one.
const DEFAULT: &str = "/run/portguard";
/// The end of the name of a socket.
const SUFFIX: &str = ".sock";

/// The directory that has the socket of each service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDirectory(PathBuf);

impl Default for RuntimeDirectory {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

impl RuntimeDirectory {
    /// A runtime directory with this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The first directory that systemd names in `$RUNTIME_DIRECTORY` (systemd.exec(5)), or `/run/portguard`.
    pub fn from_environment() -> Self {
        Self::from_variable(env::var_os("RUNTIME_DIRECTORY").as_deref())
    }

    fn from_variable(value: Option<&OsStr>) -> Self {
        // Paths are separated by colons, and need not be UTF-8.
        match value.and_then(|value| value.as_bytes().split(|byte| *byte == b':').next()) {
            Some(path) if !path.is_empty() => Self::new(OsStr::from_bytes(path)),
            _ => Self::default(),
        }
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory if it does not exist.
    ///
    /// # Errors
    /// It cannot be made, or other users can write to it.
    pub(super) fn make(&self) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::failed(format!("cannot make {}", self.0.display())).caused_by(error));
            }
        }
        let metadata = fs::symlink_metadata(&self.0).map_err(|error| self.unreadable().caused_by(error))?;
        self.require_private(&metadata)
    }

    /// The sockets in the directory; none if it does not exist.
    ///
    /// # Errors
    /// It cannot be read, or other users can write to it.
    pub(super) fn sockets(&self) -> Result<Vec<PathBuf>> {
        self.files(SUFFIX)
    }

    /// The files in the directory whose names end in this way; none if it does not exist.
    pub(super) fn files(&self, suffix: &str) -> Result<Vec<PathBuf>> {
        match fs::symlink_metadata(&self.0) {
            Ok(metadata) => self.require_private(&metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.unreadable().caused_by(error)),
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(|error| self.unreadable().caused_by(error))? {
            let entry = entry.map_err(|error| self.unreadable().caused_by(error))?;
            if entry.file_name().as_bytes().ends_with(suffix.as_bytes()) {
                paths.push(entry.path());
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// The path of the socket of the service with this process number.
    pub(super) fn socket_of(&self, pid: u32) -> PathBuf {
        self.0.join(format!("{pid}{SUFFIX}"))
    }

    /// Fails if another user could put sockets into the directory: commands would trust their replies.
    fn require_private(&self, metadata: &fs::Metadata) -> Result<()> {
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let own = owner == 0 || owner == geteuid().as_raw();
        if metadata.is_dir() && own && mode & 0o022 == 0 {
            return Ok(());
        }
        let why = if metadata.is_dir() {
            format!("it belongs to user {owner} and has mode {mode:04o}")
        } else {
            "it is not a directory".to_owned()
        };
        Err(Error::failed(format!("{} cannot be trusted", self.0.display())).because(why).remedy(
            "Remove it, and start the service again: the directory must belong to root and have mode 0700.",
        ))
    }

    fn unreadable(&self) -> Error {
        Error::failed(format!("cannot read {}", self.0.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_first_that_systemd_names() {
        let chosen = |value: Option<&[u8]>| RuntimeDirectory::from_variable(value.map(OsStr::from_bytes));
        assert_eq!(chosen(None).path(), Path::new("/run/portguard"));
        assert_eq!(chosen(Some(b"")).path(), Path::new("/run/portguard"));
        assert_eq!(chosen(Some(b"/run/a")).path(), Path::new("/run/a"));
        assert_eq!(chosen(Some(b"/run/a:/run/b")).path(), Path::new("/run/a"));
        assert_eq!(chosen(Some(b"/run/\xfc:/run/b")).path().as_os_str().as_bytes(), b"/run/\xfc");
    }
}
