//! What an administrator does to a guard behind the back of the service that keeps it, or types because he was told to.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use portguard_testkit::net::{Namespace, run};

use super::{BPFFS, IFACE, Machine, Output, PORTGUARD, Portguard, Service};

/// Holds the lock of all guards, so that no service restores anything; commands that only look are not kept waiting.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: Flock<File>,
}

/// As a `portguard explain` does that is stopped.
pub(crate) fn hold_lock(machine: &Machine) -> Held {
    Held { _lock: lock_of_all_guards(machine, FlockArg::LockShared).expect("the lock of all guards") }
}

fn lock_of_all_guards(machine: &Machine, argument: FlockArg) -> io::Result<Flock<File>> {
    let directory = machine.mounts().run(|| Ok(File::open(Path::new(BPFFS).join("portguard"))));
    let lock = Flock::lock(directory.expect("the mounts of the machine")?, argument);
    lock.map_err(|(_, errno)| errno.into())
}

/// Stops a service at a moment at which it has no work in hand. One that is stopped within its work keeps the lock that
/// the commands wait for, or a link that outlives its pin.
pub(crate) fn pause(machine: &Machine, service: &Service) {
    service.wait_until("the service has no work in hand", || {
        service.signal(Signal::SIGSTOP);
        let process = PathBuf::from(format!("/proc/{}", service.id()));
        service.wait_until("all its threads are stopped", || is_stopped(&process).expect("its threads"));
        // Without the directory of the lock, nobody has a guard.
        let holds_lock = lock_of_all_guards(machine, FlockArg::LockExclusiveNonblock)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        let is_idle = !holds_lock && !has_link(&process).expect("its open files");
        if !is_idle {
            service.signal(Signal::SIGCONT);
        }
        is_idle
    });
}

/// Whether the kernel has stopped all threads of a process: proc_pid_stat(5), the field after the name in parentheses.
fn is_stopped(process: &Path) -> io::Result<bool> {
    for thread in fs::read_dir(process.join("task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        if !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a process has a BPF link open.
fn has_link(process: &Path) -> io::Result<bool> {
    for file in fs::read_dir(process.join("fd"))? {
        if fs::read_link(file?.path())?.to_string_lossy().contains("bpf_link") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Detaches the link of the guard on an interface.
pub(crate) fn detach_link(machine: &Machine, portguard: Portguard<'_>, interface: &str) {
    let pin = portguard.status_of(interface).pinned;
    let mut bpftool = Command::new("bpftool");
    run(machine.mounts().enter(bpftool.args(["link", "detach", "pinned", &pin]))).expect("bpftool");
}

/// Replaces the guard of a service by one that is attached with other arguments. All commands are refused where a service
/// keeps the guard; but a service that is stopped answers nobody, and its claim goes with the pins. The service goes on
/// then, and restores nothing until what is returned is dropped.
pub(crate) fn behind_its_back(
    machine: &Machine,
    portguard: Portguard<'_>,
    service: &Service,
    arguments: &[&str],
) -> Held {
    let pin = portguard.status_of(IFACE).pinned;
    pause(machine, service);
    let interface = Path::new(&pin).parent().expect("the directory of the interface");
    machine.mounts().run(|| Ok(fs::remove_dir_all(interface)?)).expect("removing the pins");
    // The kernel takes its time to free the link.
    let attach = [&["attach", IFACE], arguments].concat();
    service.wait_until("another guard is attached", || portguard.run(&attach).code == 0);
    let held = hold_lock(machine);
    service.signal(Signal::SIGCONT);
    held
}

/// Where something is typed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typed<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) namespace: &'a Namespace,
}

/// Types a line into a shell in which `portguard` is the binary under test.
pub(crate) fn typed(Typed { machine, namespace }: Typed<'_>, line: &str) -> Output {
    let programs = Path::new(PORTGUARD).parent().expect("the folder of the binary");
    let path = env::var("PATH").expect("PATH");
    let mut shell = machine.command(namespace, "sh");
    shell
        .args(["-c", line])
        .env("PATH", format!("{}:{path}", programs.display()))
        .env_remove("PORTGUARD_ALLOWLIST")
        .env("STATE_DIRECTORY", machine.state())
        .env("RUNTIME_DIRECTORY", machine.state().join("run"));
    Output::of(&mut shell)
}
