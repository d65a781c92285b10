//! Reads the file of an allowlist, and checks its type, size, owner and permissions.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::path_walk::{Missing, walk};
use super::{Checked, FileStamp, Invalid, MAX_FILE_SIZE, trust};
use crate::printable::{printable, quoted};

/// The most attempts to open the file, and to find it by its path as well.
const ATTEMPTS: u32 = 8;

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
pub(super) fn read(path: &Path, errors: &mut Diagnostics) -> Result<(Vec<u8>, FileStamp), Box<Diagnostic>> {
    let shown = printable(&path.to_string_lossy());
    let cannot_read = |error: io::Error| cannot_read(path, &shown, &error);
    let mut attempts = 0;
    let (file, metadata, way) = loop {
        // The file is opened before its metadata are read, so that both are of the same file. The open call does not
        // wait for the other end of a FIFO.
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
        let way = walk(path);
        attempts += 1;
        // The file may have been replaced since, as editors and Kubernetes do.
        if way.led_to(&metadata) {
            break (file, metadata, way);
        }
        if attempts == ATTEMPTS {
            return Err(problem(
                format!("{shown} does not lead to the file that was opened"),
                "another process replaces the file, or a directory on its path: run the command again later",
            ));
        }
    };
    for (message, help) in trust::of_file(&shown, &metadata).into_iter().chain(trust::of_way(&shown, &way)) {
        errors.push(*problem(message, help));
    }
    let bytes = read_at_most(&file, metadata.len(), MAX_FILE_SIZE).map_err(cannot_read)?;
    let stamp = FileStamp::of(&metadata);
    bytes.map(|bytes| (bytes, stamp)).ok_or_else(|| {
        problem(
            format!("{shown} is larger than {} MiB", MAX_FILE_SIZE >> 20),
            "a list within the limits is smaller: is this the right file?",
        )
    })
}

/// The problem that the file cannot be read.
fn cannot_read(path: &Path, shown: &str, error: &io::Error) -> Box<Diagnostic> {
    let way = walk(path);
    match (error.kind(), &way.missing) {
        (io::ErrorKind::NotFound, Some(missing)) => return not_there(path, shown, missing),
        // In a shared directory, Linux follows no symbolic links of others (fs.protected_symlinks).
        (io::ErrorKind::PermissionDenied, None) => {
            if let Some((message, help)) = trust::of_way(shown, &way).into_iter().next() {
                return problem(message, help);
            }
        }
        _ => {}
    }
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied if geteuid().is_root() => {
            "make root the owner of the file, or let others read it: this process may not read files of other \
             users (CAP_DAC_READ_SEARCH)"
        }
        io::ErrorKind::PermissionDenied => "run portguard as root, or let this user read the file",
        _ => "name a file that can be read",
    };
    problem(format!("cannot read {shown}: {error}"), help)
}

/// The problem that there is no file, and how to make one.
fn not_there(path: &Path, shown: &str, Missing { path: missing, rest }: &Missing) -> Box<Diagnostic> {
    let text = |path: &Path| printable(&path.to_string_lossy());
    let write = format!("portguard suggest > {}", quoted(shown));
    let (what, write) = match rest.parent() {
        Some(rest) => {
            let directory = text(&missing.join(rest));
            let what = format!("the directory {} does not exist", text(missing));
            (what, format!("mkdir -p {} && {write}", quoted(directory.trim_end_matches('/'))))
        }
        None if *missing == absolute(path) => (format!("{shown} does not exist"), write),
        None => (format!("{shown} leads to {}, which does not exist", text(missing)), write),
    };
    problem(
        format!("there is no allowlist: {what}"),
        format!(
            "to write one, run `{write}`; to use another file, name it: `--allowlist PATH`, or `portguard check PATH`"
        ),
    )
}

/// All bytes of `file`, which are probably `size`; `None` if there are more than `max`.
fn read_at_most(file: &File, size: u64, max: u64) -> io::Result<Option<Vec<u8>>> {
    // One more, so that the end is found without more room.
    let mut bytes = Vec::with_capacity(size.min(max) as usize + 1);
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

fn problem(message: String, help: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic { severity: Severity::Error, message, help: Some(help.into()), place: None })
}
