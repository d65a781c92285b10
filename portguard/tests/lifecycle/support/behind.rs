//! What an administrator does to a guard behind the back of the service that keeps it, or types because he was told to.

use std::env;
use std::fs::{self, File};
use std::path::Path;
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
    let lock = machine.mounts().run(|| {
        let directory = File::open(Path::new(BPFFS).join("portguard"))?;
        Flock::lock(directory, FlockArg::LockShared).map_err(|(_, errno)| errno.into())
    });
    Held { _lock: lock.expect("the lock of all guards") }
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
    service.signal(Signal::SIGSTOP);
    let pin = portguard.status_of(IFACE).pinned;
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
