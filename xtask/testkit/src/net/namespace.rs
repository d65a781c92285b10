//! Network namespaces that clean up after themselves.

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, panic, thread};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::process;

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";
const PREFIX: &str = "pg-";

/// A network namespace with a name that `ip -n` and `nsenter --net` understand, `lo` up, and nothing else.
/// It vanishes on drop, with every process that is still inside.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    fd: Arc<OwnedFd>,
    state: TempDir,
}

impl Namespace {
    /// Creates `pg-PID-N-LABEL`.
    pub fn new(label: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{n}-{label}", std::process::id());
        process::run(process::tool("ip").args(["netns", "add", &name]))
            .context("cannot create a network namespace (it takes root and iproute2)")?;
        let namespace = Self::adopt(name)?;
        // An address that has to prove that nobody else has it (RFC 4862) would be useless for its first second.
        namespace.run(|| {
            for scope in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")?;
            }
            io::Result::Ok(())
        })?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Takes over an existing one: it will vanish when the value is dropped.
    fn adopt(name: String) -> Result<Self> {
        let path = Path::new(NAMES).join(&name);
        let fd = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let state = TempDir::new().context("cannot create a temporary folder")?;
        Ok(Self { name, fd: Arc::new(fd.into()), state })
    }

    /// The name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file to give to `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// A command that runs inside, and dies with the thread that starts it. What a portguard keeps there
    /// (`$STATE_DIRECTORY`) goes with the namespace.
    ///
    /// It enters by setns alone. `ip netns exec` would also give it a /sys of its own, which hides the host's bpffs.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = process::tool(program);
        self.enter(command.env("STATE_DIRECTORY", self.state.path()));
        command
    }

    /// Lets `command` run inside.
    pub fn enter<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let fd = Arc::clone(&self.fd);
        // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
        unsafe { command.pre_exec(move || setns(&fd, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)) }
    }

    /// Runs `work` in a thread inside and returns its value. Sockets opened there stay in the namespace.
    /// A process that `work` starts must end before `work` does: the kernel kills it with its thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|errno| panic!("cannot enter network namespace {}: {errno}", self.name));
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// Runs lines of `ip` inside, stopping at the first that fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            process::run(process::tool("ip").args(["-n", &self.name]).args(line.split_whitespace()))
                .with_context(|| format!("ip -n {} {line}", self.name))?;
        }
        Ok(())
    }

    /// The index of the interface of that name.
    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        self.run(|| nix::net::if_::if_nametoindex(interface))
            .with_context(|| format!("no interface {interface} in network namespace {}", self.name))
    }

    /// Gives an address to an interface, usable at once. `prefix` is like `192.0.2.1/24`.
    pub fn add_address(&self, interface: &str, prefix: &str) -> Result<()> {
        let address = prefix.split('/').next().unwrap_or(prefix);
        let is_v6 = address.parse::<IpAddr>().with_context(|| format!("{prefix} is no address"))?.is_ipv6();
        let nodad = if is_v6 { "nodad" } else { "" };
        self.ip(&format!("addr add {prefix} dev {interface} {nodad}"))
    }

    /// The processes whose main thread is inside.
    fn processes(&self) -> io::Result<Vec<Pid>> {
        let this = fs::metadata(self.path())?;
        let own = std::process::id();
        let inside = |pid: &i32| {
            // A process that has ended meanwhile is not inside.
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|net| (net.dev(), net.ino()) == (this.dev(), this.ino()))
        };
        Ok(fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| pid.unsigned_abs() != own)
            .filter(inside)
            .map(Pid::from_raw)
            .collect())
    }

    fn remove(&self) -> Result<()> {
        for pid in self.processes()? {
            match kill(pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("cannot kill {pid} in {}", self.name));
                }
            }
        }
        process::run(process::tool("ip").args(["netns", "del", &self.name])).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("testkit: cannot remove network namespace {}: {error:#}", self.name);
        }
    }
}

/// The namespaces that a killed process left behind. Dropping them removes them.
pub fn stale() -> Result<Vec<Namespace>> {
    let names = match fs::read_dir(NAMES) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {NAMES}")),
    };
    let mut stale = Vec::new();
    for entry in names {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if owner(&name).is_some_and(|pid| kill(pid, None) == Err(Errno::ESRCH)) {
            // Another run may be sweeping at the same time and have removed it already.
            stale.extend(Namespace::adopt(name));
        }
    }
    Ok(stale)
}

/// The process that created the namespace of that name, if it was one of ours.
fn owner(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok().filter(|&pid| pid > 0).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_in_the_name() {
        assert_eq!(owner("pg-123-4-server"), Some(Pid::from_raw(123)));
        for foreign in ["blue", "pg-", "pg-x-1-server", "pg-12", "pg-0-1-a", "pg--5-1-a"] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
