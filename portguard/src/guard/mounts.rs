//! Whether the BPF file system that this process sees will last. In a container, or in the mounts that `ip netns exec`
//! makes, it ends with the process, and the guards end with it.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::getppid;

use crate::error::{Error, Result};
use crate::guard::bpffs::BPFFS;

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the inode number of the first PID namespace.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// The environment variable that a user sets to 1 to pin guards in a mount namespace of their own on purpose.
const OWN_MOUNTS: &str = "PORTGUARD_OWN_MOUNTS";

/// The owner of the BPF file system that this process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The host: process 1 sees the same file system.
    Host,
    /// This process or one of its ancestors: process 1 sees another file system.
    Own,
    /// Unknown, because this process is in a container: process 1 is not that of the host.
    Container,
}

/// The owner of the BPF file system that this process sees; `None` if `/proc` does not show it.
pub fn whose() -> Option<Whose> {
    if is_in_container() {
        return Some(Whose::Container);
    }
    let same = device_of("1").ok()? == device_of("self").ok()?;
    Some(if same { Whose::Host } else { Whose::Own })
}

/// Whether this process is in a PID namespace of its own. It then cannot see whether its mounts are those of the host.
fn is_in_container() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() != FIRST_PID_NAMESPACE)
}

/// The device number of the file system that a process sees at [`BPFFS`].
fn device_of(process: &str) -> io::Result<u64> {
    fs::metadata(format!("/proc/{process}/root{BPFFS}")).map(|metadata| metadata.dev())
}

/// Fails if this process has mounts of its own, or may have: it must then not mount a BPF file system.
pub(super) fn require_host() -> Result<()> {
    if !is_in_container() && other_ancestor().is_none() {
        return Ok(());
    }
    Err(not_of_the_host(format!("the BPF file system of the host is not at {BPFFS} here")))
}

/// Fails if the BPF file system is visibly not that of the host, but that of this process or of a process that started
/// it.
pub(super) fn require_lasting() -> Result<()> {
    if env::var_os(OWN_MOUNTS).is_some_and(|value| value == "1") || is_in_container() {
        // A container cannot show whose file system it is: `doctor` reports that.
        return Ok(());
    }
    let Some(ancestor) = other_ancestor() else { return Ok(()) };
    match (device_of(&ancestor), device_of("self")) {
        (Ok(theirs), Ok(own)) if theirs != own => {
            Err(not_of_the_host(format!("the BPF file system at {BPFFS} is not that of the host")))
        }
        _ => Ok(()),
    }
}

fn not_of_the_host(what: String) -> Error {
    Error::failed(what)
        .because(
            "this process has mounts of its own, as in a container or by `ip netns exec`; guards that are kept there end with them",
        )
        .remedy(format!(
            "For a container, mount it on the host (mount -t bpf bpf {BPFFS}) and mount it into the container (docker run \
             --volume {BPFFS}:{BPFFS}). Enter a network namespace with: nsenter --net=/run/netns/NAME portguard ... To keep \
             the mounts on purpose, set {OWN_MOUNTS}=1."
        ))
}

/// The nearest ancestor of this process with another mount namespace. In a PID namespace of its own, the first process
/// has no visible parent.
fn other_ancestor() -> Option<String> {
    let mounts =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|metadata| metadata.ino());
    let own = mounts("thread-self").ok()?;
    let mut process = getppid().to_string();
    // The mounts of other users' processes cannot be read, so the walk ends there.
    while let Ok(theirs) = mounts(&process) {
        if theirs != own {
            return Some(process);
        }
        process = parent_of(&process)?;
    }
    None
}

/// The parent of a process: in `/proc/PID/stat`, the second word after the name. The name is in parentheses, and may
/// contain any character (proc_pid_stat(5)).
fn parent_of(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    behind_the_name.split_whitespace().nth(1).map(str::to_owned)
}
