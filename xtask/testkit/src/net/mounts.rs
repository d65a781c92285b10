//! A private view of the file system, for daemons that insist on fixed paths.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{io, panic, thread};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A mount namespace: a copy of the machine's mounts, in which new ones are seen by its own processes only.
/// It has no name; the kernel frees it when the value and the last process inside are gone.
#[derive(Debug, Clone)]
pub struct MountNamespace {
    fd: Arc<OwnedFd>,
}

impl MountNamespace {
    /// Creates one that looks like the machine's.
    pub fn new() -> Result<Self> {
        in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("cannot create a mount namespace")?;
            // Slave, not private: when the machine unmounts something (such as another namespace's name), it has
            // to go away here as well, or it would live for as long as we do.
            mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&Path>)
                .context("cannot detach the mounts from the machine's")?;
            let fd = File::open("/proc/thread-self/ns/mnt").context("cannot open the mount namespace")?;
            Ok(Self { fd: Arc::new(fd.into()) })
        })
    }

    /// Runs `work` in a thread inside and returns its value.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_thread(|| {
            // Threads share their root directory; only one with its own may change its mount namespace.
            unshare(CloneFlags::CLONE_FS).context("cannot part from the other threads")?;
            setns(&*self.fd, CloneFlags::CLONE_NEWNS).context("cannot enter the mount namespace")?;
            work()
        })
    }

    /// Lets `command` run inside. A portguard may keep guards there.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PORTGUARD_OWN_MOUNTS", "1");
        let fd = Arc::clone(&self.fd);
        // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
        unsafe { command.pre_exec(move || setns(&fd, CloneFlags::CLONE_NEWNS).map_err(io::Error::from)) }
    }
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Covers a directory with an empty one, in memory.
pub(super) fn cover(directory: &str) -> Result<()> {
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("cannot mount a tmpfs on {directory}"))
}

/// Puts another file in a file's place.
pub(super) fn replace(file: &str, by: &str) -> Result<()> {
    mount(Some(by), file, None::<&Path>, MsFlags::MS_BIND, None::<&Path>)
        .with_context(|| format!("cannot mount {by} on {file}"))
}
