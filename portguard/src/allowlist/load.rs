//! Reads the file of an allowlist, and checks its type, size and permissions.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::{Checked, FileStamp, Invalid, MAX_FILE_SIZE};
use crate::printable::printable;

/// The absolute path of the file of a list, with its symbolic links.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    // Fails for an empty path only, which cannot be read.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Reads and validates the list at `path`.
pub(super) fn load(path: &Path) -> Result<Checked, Box<Invalid>> {
    let mut errors = Diagnostics::new(path);
    match read(path, &mut errors) {
        Ok((bytes, stamp)) => super::check(path, bytes, errors).map(|mut checked| {
            checked.allowlist.stamp = Some(stamp);
            checked.allowlist.path = absolute(path);
            checked
        }),
        Err(unreadable) => {
            errors.push(*unreadable);
            let warnings = Diagnostics::new(path);
            Err(Box::new(Invalid { path: path.to_owned(), sha256: None, errors, warnings }))
        }
    }
}

/// The content of the file, and its stamp from before it was read. Problems that do not prevent the reading go to
/// `errors`.
fn read(path: &Path, errors: &mut Diagnostics) -> Result<(Vec<u8>, FileStamp), Box<Diagnostic>> {
    let shown = printable(&path.to_string_lossy());
    let cannot_read = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "write the list there, or name the file where it is",
            io::ErrorKind::PermissionDenied if geteuid().is_root() => {
                "make root the owner of the file, or let others read it: this process may not read files of other \
                 users (CAP_DAC_READ_SEARCH)"
            }
            io::ErrorKind::PermissionDenied => "run portguard as root, or let this user read the file",
            _ => "name a file that can be read",
        };
        problem(format!("cannot read {shown}: {error}"), help)
    };
    // The file is opened before its metadata are read, so that both are of the same file. The open call does not wait
    // for the other end of a FIFO.
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(cannot_read)?;
    let metadata = file.metadata().map_err(cannot_read)?;
    if metadata.is_dir() {
        return Err(problem(format!("{shown} is a directory"), "name the file in it"));
    }
    if !metadata.is_file() {
        return Err(problem(
            format!("{shown} is not a regular file"),
            "write the list to a file, and name that",
        ));
    }
    let mode = Mode::from_bits_truncate(metadata.mode());
    if mode.intersects(Mode::S_IWGRP | Mode::S_IWOTH) {
        errors.push(*problem(
            format!("{shown} is writable by users other than its owner (mode {:04o})", mode.bits()),
            format!("a user who can write the list can open port 111: run `chmod go-w {shown}`"),
        ));
    }
    let bytes = read_at_most(&file, MAX_FILE_SIZE).map_err(cannot_read)?;
    let stamp = FileStamp::of(&metadata);
    bytes.map(|bytes| (bytes, stamp)).ok_or_else(|| {
        problem(
            format!("{shown} is larger than {} MiB", MAX_FILE_SIZE >> 20),
            "a list within the limits is smaller: is this the right file?",
        )
    })
}

/// All bytes of `file`; `None` if there are more than `max`.
fn read_at_most(file: &File, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

fn problem(message: String, help: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic { severity: Severity::Error, message, help: Some(help.into()), place: None })
}
