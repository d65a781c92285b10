//! A command from start to end: how long it took, and what of.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
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

/// Runs a command that has to succeed.
pub(super) fn run(command: &mut Command) -> Result<Took> {
    let mut stderr = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(clone(&stderr)?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let (status, usage) = wait(child.id())?;
    let wall = start.elapsed();
    let mut words = String::new();
    stderr.rewind().and_then(|()| stderr.read_to_string(&mut words)).context("cannot read its errors")?;
    ensure!(status == 0, "{command:?} failed: {words}");
    let kibibytes = u64::try_from(usage.ru_maxrss).unwrap_or_default();
    Ok(Took {
        wall,
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        memory: kibibytes * 1024,
    })
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
