//! Whether what is mounted where guards are kept lasts: in a container, or in the mounts that `ip netns exec` makes, it goes with
//! the process, and the guards with it.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::getppid;

use crate::error::{Error, Result};
use crate::guard::bpffs::BPFFS;

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the inode number of the first PID namespace.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// Set to 1 by who keeps a mount namespace, and wants guards to be kept there.
const OWN_MOUNTS: &str = "PORTGUARD_OWN_MOUNTS";

/// Whose file system guards are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of the first process.
    Host,
    /// Another one.
    Own,
    /// This is a container, whose first process is not that of the host.
    Container,
}

/// Whose file system is mounted where guards are kept; `None`: that cannot be told.
pub fn whose() -> Option<Whose> {
    if is_in_container() {
        return Some(Whose::Container);
    }
    let same = device_of("1").ok()? == device_of("self").ok()?;
    Some(if same { Whose::Host } else { Whose::Own })
}

/// Whether this process is in a PID namespace of its own: it cannot see then whether its mounts are those of the host.
fn is_in_container() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() != FIRST_PID_NAMESPACE)
}

/// The file system that a process sees where guards are kept.
fn device_of(process: &str) -> io::Result<u64> {
    fs::metadata(format!("/proc/{process}/root{BPFFS}")).map(|metadata| metadata.dev())
}

/// Fails if this process has mounts of its own, or may have, so that it must mount nothing there.
pub(super) fn require_host() -> Result<()> {
    if !is_in_container() && other_ancestor().is_none() {
        return Ok(());
    }
    Err(not_of_the_host(format!("the BPF file system of the host is not at {BPFFS} here")))
}

/// Fails if what is mounted there is seen to be the own one of this process, or of who started it, and not that of the host.
pub(super) fn require_lasting() -> Result<()> {
    if env::var_os(OWN_MOUNTS).is_some_and(|value| value == "1") || is_in_container() {
        // In a container that cannot be seen: `doctor` says so.
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

/// The first process among those that started this one, or started that, which has other mounts. In a PID namespace of its own,
/// the first process was started by nobody.
fn other_ancestor() -> Option<String> {
    let mounts =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|metadata| metadata.ino());
    let own = mounts("thread-self").ok()?;
    let mut process = getppid().to_string();
    // Those of other users cannot be looked at.
    while let Ok(theirs) = mounts(&process) {
        if theirs != own {
            return Some(process);
        }
        process = parent_of(&process)?;
    }
    None
}

/// The number of the process that started another one: in `/proc/PID/stat`, the second word behind the name, which
/// stands in parentheses and may hold any character (proc_pid_stat(5)).
fn parent_of(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    behind_the_name.split_whitespace().nth(1).map(str::to_owned)
}
