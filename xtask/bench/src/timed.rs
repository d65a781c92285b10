//! A command from start to end: how long it took, and what of.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// What a command took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// By the clock on the wall.
    pub(super) wall: Duration,
    /// Of it, CPU time of its own.
    pub(super) user: Duration,
    /// Of it, CPU time of the kernel.
    pub(super) system: Duration,
    /// The most memory that it had at a time, in bytes.
    pub(super) memory: u64,
}

/// How often its memory is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Runs a command that has to succeed.
pub(super) fn run(command: &mut Command) -> Result<Took> {
    let mut stderr = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(clone(&stderr)?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let pid = child.id();
    let (waited, memory) = thread::scope(|scope| {
        let watcher = scope.spawn(|| most_memory(pid));
        (wait(pid), watcher.join())
    });
    let (status, usage) = waited?;
    let wall = start.elapsed();
    let mut words = String::new();
    stderr.rewind().and_then(|()| stderr.read_to_string(&mut words)).context("cannot read its errors")?;
    ensure!(status == 0, "{command:?} failed: {words}");
    let memory = memory.unwrap_or_default();
    Ok(Took { wall, user: duration(usage.ru_utime), system: duration(usage.ru_stime), memory })
}

/// The most memory that a process has had, in bytes, when it has ended. Not `ru_maxrss`, which begins with that of the
/// process it was forked from.
fn most_memory(pid: u32) -> u64 {
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // A process that has ended has none.
        let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { return most };
        let kibibytes = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        most = kibibytes.map_or(most, |kibibytes| kibibytes * 1024);
        thread::sleep(LOOK);
    }
}

/// Waits for a child that nobody else waits for: its status, and what it has used.
fn wait(pid: u32) -> Result<(i32, libc::rusage)> {
    let pid = libc::pid_t::try_from(pid).context("no number of a process")?;
    let mut status = 0;
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid to write to for the time of the call.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    ensure!(waited == pid, "cannot wait for it: {}", std::io::Error::last_os_error());
    Ok((status, usage))
}

fn duration(time: libc::timeval) -> Duration {
    let microseconds = time.tv_sec * 1_000_000 + time.tv_usec;
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

fn clone(file: &File) -> Result<File> {
    file.try_clone().context("cannot share a temporary file")
}
