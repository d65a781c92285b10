//! The directory of the history: one file for each day (UTC), bounded in age and size.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

use crate::error::{Error, Result};
use crate::history::line::Line;
use crate::history::reader::{History, Reader};

/// The interval at which a writer checks whether another writer has finished.
const RETRY: Duration = Duration::from_millis(5);

/// The limits of a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The age in days from which files are removed.
    pub(super) days: i64,
    /// The largest size of all files together.
    pub(super) bytes: u64,
    /// The longest wait of a writer for another one.
    pub(super) wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { days: 30, bytes: 64 << 20, wait: Duration::from_secs(1) }
    }
}

/// The directory of a history.
#[derive(Debug, Clone)]
pub(super) struct Store {
    directory: PathBuf,
    limits: Limits,
}

/// The file of a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DayFile {
    day: Date,
    bytes: u64,
}

impl Store {
    pub(super) fn new(directory: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { directory: directory.into(), limits }
    }

    /// Appends a line to the file of the day on which it was written, and removes files beyond the limits.
    pub(super) fn append(&self, line: &Line) -> Result<()> {
        let today = day_of(line.written_at);
        let path = self.path(today);
        let failed = || {
            let interface = line.interface.as_deref().unwrap_or("an interface that is gone");
            Error::failed(format!("cannot write the counters of {interface} to {}", path.display()))
                .remedy("These counters are missing from the history; nothing else is affected.")
        };
        let text = line.to_text().map_err(|error| failed().caused_by(io::Error::from(error)))?;
        let directory = self.open_or_create()?;
        let directory = lock(directory, self.limits.wait).map_err(|error| failed().caused_by(error))?;
        let files = self.files()?;
        let bytes_today = files.iter().find(|file| file.day == today).map_or(0, |file| file.bytes);
        // One byte more if the last line has no newline.
        let more = text.len() as u64 + 1;
        if bytes_today + more > self.limits.bytes {
            return Err(failed().because(format!(
                "the file of today has reached the limit of {} bytes for the whole history",
                self.limits.bytes
            )));
        }
        // First, because it makes room for the line.
        let pruned = self.prune(files, today, more);
        append_whole(&path, text.as_bytes()).map_err(|error| failed().caused_by(error))?;
        if bytes_today == 0 {
            // The name of a new file is on the disk only after its directory is.
            directory.sync_all().map_err(|error| failed().caused_by(error))?;
        }
        pruned
    }

    /// Reads all files. The names of the files do not show which of them could be skipped: a set whose last line was
    /// written before `since` may have counted after that time, and the clock may have been set.
    pub(super) fn read(&self, since: Option<u64>) -> Result<History> {
        let mut reader = Reader::default();
        match self.open() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(reader.finish(since)),
            Err(error) => return Err(self.unusable().caused_by(error)),
        }
        for DayFile { day, .. } in self.files()? {
            let path = self.path(day);
            let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path);
            match file.and_then(|file| reader.read(BufReader::new(file))) {
                Ok(()) => {}
                // A writer has removed the file in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::failed(format!("cannot read {}", path.display())).caused_by(error));
                }
            }
        }
        Ok(reader.finish(since))
    }

    /// Removes files that are too old, and then the oldest ones until `more` bytes fit in. The dates in the names
    /// count, not the times of the files, which copying changes. A file with a date in the future counts as newer than
    /// the file of today: the clock was ahead when it was written, or is behind now. The file of today always remains.
    fn prune(&self, files: Vec<DayFile>, today: Date, more: u64) -> Result<()> {
        let oldest_kept = today.saturating_sub(self.limits.days.days());
        let mut total = files.iter().map(|file| file.bytes).sum::<u64>() + more;
        let mut result = Ok(());
        for file in files {
            if file.day == today || (file.day >= oldest_kept && total <= self.limits.bytes) {
                continue;
            }
            let path = self.path(file.day);
            match fs::remove_file(&path) {
                Ok(()) => total -= file.bytes,
                Err(error) => {
                    let what = format!("cannot remove {}, which the history no longer keeps", path.display());
                    result = Err(Error::failed(what).caused_by(error));
                }
            }
        }
        result
    }

    /// The files of days, oldest first. Other files in the directory do not belong to the history.
    fn files(&self) -> Result<Vec<DayFile>> {
        let list = || -> io::Result<_> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.directory)? {
                let entry = entry?;
                let Some(day) = entry.file_name().to_str().and_then(day_of_name) else { continue };
                // These are the metadata of the entry itself, not of the target of a symbolic link.
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => files.push(DayFile { day, bytes: metadata.len() }),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            files.sort_unstable();
            Ok(files)
        };
        list().map_err(|error| self.unusable().caused_by(error))
    }

    fn path(&self, day: Date) -> PathBuf {
        self.directory.join(name_of_day(day))
    }

    fn open_or_create(&self) -> Result<File> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .and_then(|()| self.open())
            .map_err(|error| self.unusable().caused_by(error))
    }

    /// Opens the directory. It fails if another user could write to it, because that user could forge the history.
    fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let directory = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&self.directory)?;
        let metadata = directory.metadata()?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if (owner == 0 || owner == geteuid().as_raw()) && mode & 0o022 == 0 {
            return Ok(directory);
        }
        Err(io::Error::other(format!(
            "it belongs to user {owner}, with mode {mode:04o}; users other than root may write to it"
        )))
    }

    fn unusable(&self) -> Error {
        Error::failed(format!("cannot use the history in {}", self.directory.display()))
            .remedy("It must be a directory that belongs to root, with mode 0700.")
    }
}

/// Locks the directory. In contrast to a lock on the file of a day, this also prevents that another writer removes the
/// file.
fn lock(mut directory: File, wait: Duration) -> io::Result<Flock<File>> {
    let start = Instant::now();
    loop {
        directory = match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((directory, Errno::EWOULDBLOCK)) if start.elapsed() < wait => directory,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("another process has been writing for {} ms", wait.as_millis()),
                ));
            }
            Err((_, errno)) => return Err(errno.into()),
        };
        thread::sleep(RETRY);
    }
}

/// Appends to a file with one write, or leaves it unchanged. The caller holds the lock.
fn append_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let before = metadata.len();
    let mut last = [b'\n'];
    if before > 0 {
        file.read_exact_at(&mut last, before - 1)?;
    }
    let mut whole = Vec::with_capacity(text.len() + 1);
    if last != *b"\n" {
        // A writer was killed, or the power failed: its torn line must not become a part of this line.
        whole.push(b'\n');
    }
    whole.extend_from_slice(text);
    let written = match file.write(&whole) {
        Ok(length) if length == whole.len() => file.sync_data(),
        Ok(_) => Err(io::Error::from(Errno::ENOSPC)),
        Err(error) => Err(error),
    };
    if written.is_err() {
        // If this fails too, the next writer puts a newline after the torn line, and readers skip it.
        let _ = file.set_len(before);
    }
    written
}

/// The day of a time in nanoseconds of Unix time.
fn day_of(unix: u64) -> Date {
    let time = Timestamp::from_nanosecond(unix.into()).unwrap_or(Timestamp::MAX);
    time.to_zoned(TimeZone::UTC).date()
}

fn name_of_day(day: Date) -> String {
    format!("{day}.jsonl")
}

fn day_of_name(name: &str) -> Option<Date> {
    let day: Date = name.strip_suffix(".jsonl")?.parse().ok()?;
    // A date has one valid form.
    (name_of_day(day) == name).then_some(day)
}
