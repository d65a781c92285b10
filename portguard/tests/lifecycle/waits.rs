//! Nobody waits for a terminal or a pipe of somebody else's, nobody waits without end, and who waits obeys signals.

use std::fs::File;
use std::io::{Write as _, pipe};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use portguard_testkit::net::wait_until;

use crate::support::{BPFFS, IFACE, PATIENCE, PORTGUARD, Service, SingleHost};

/// Long before the ten seconds in which a service gives up by itself, or anybody else would.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The writing end of a pipe that is full, and that nobody reads while the reading end is kept.
fn stalled() -> (std::io::PipeReader, Stdio) {
    let (reader, mut writer) = pipe().expect("a pipe");
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
        .expect("F_SETFL");
    while writer.write(&[0; 4096]).is_ok() {}
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).expect("F_SETFL");
    (reader, writer.into())
}

/// Whether a process sleeps in the kernel until a pipe has room.
fn waits_for_a_pipe(child: &Child) -> bool {
    let wchan = std::fs::read_to_string(format!("/proc/{}/wchan", child.id())).unwrap_or_default();
    let syscall = std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap_or_default();
    // write(2) is system call 1 on x86-64, and 64 on aarch64.
    wchan.contains("pipe") || syscall.starts_with("1 0x1 ") || syscall.starts_with("64 0x1 ")
}

fn lock(host: &SingleHost) -> Flock<File> {
    let lock = host.machine.mounts().run(|| {
        let root = File::open(Path::new(BPFFS).join("portguard"))?;
        Ok(Flock::lock(root, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
    });
    lock.expect("the lock")
}

#[test]
fn a_pipe_that_stands_still_keeps_nobody_else_waiting() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    for arguments in [
        &["reload", "--dry-run"][..],
        &["reload"],
        &["attach", IFACE],
        &["explain", "192.0.2.7"],
        &["stats", "--reset"],
        &["detach", IFACE],
    ] {
        let (reader, full) = stalled();
        let mut command = portguard.command(arguments);
        let mut child = command.stdout(full).stderr(Stdio::null()).spawn().expect("starting");
        wait_until("it waits for the pipe", PATIENCE, || Ok(waits_for_a_pipe(&child)))
            .unwrap_or_else(|error| panic!("{arguments:?}: {error:#}"));
        let begun = Instant::now();
        for others in [&["attach", IFACE, "--allowlist", &list][..], &["reload"], &["stats", "--reset"]] {
            let output = portguard.run(others);
            assert_eq!(output.code, 0, "{others:?} beside {arguments:?}: {output:?}");
            assert!(!output.stderr.contains("waiting"), "{others:?} beside {arguments:?}: {output:?}");
        }
        assert!(begun.elapsed() < PATIENCE, "{arguments:?}");
        drop(reader);
        child.wait().expect("an end");
    }
}

#[test]
fn who_waits_for_the_lock_is_told_for_whom_and_obeys_signals() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let lock = lock(&host);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut waiting =
            portguard_testkit::net::Process::spawn(&mut portguard.command(["reload"])).expect("starting");
        let told = format!("waiting for another portguard to finish (process {})", std::process::id());
        wait_until("it tells for whom", PATIENCE, || Ok(waiting.output().contains(&told)))
            .unwrap_or_else(|error| panic!("{error:#}: {}", waiting.output()));
        waiting.signal(signal).expect("a process that is there");
        waiting.wait(AT_ONCE).expect("waiting").expect("it ends");
    }
    drop(lock);
    portguard.ok(&["reload"]);
}

#[test]
fn a_service_that_waits_for_the_lock_ends_when_it_is_told_to() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // At its start, at a reload, and at a look for an interface that has come.
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let held = lock(&host);
    let mut starting = Service::spawn(portguard, &[IFACE, "--allowlist", &list]);
    // It may wait for long, and nobody is guarded meanwhile.
    starting.until_said(&format!("waiting for another portguard to finish (process {})", std::process::id()));
    starting.signal(Signal::SIGTERM);
    assert!(ends_at_once(&mut starting), "at its start: {}", starting.said());
    drop(held);

    let mut service = Service::start(portguard, &[IFACE, "wg0", "--allowlist", &list]);
    let held = lock(&host);
    service.signal(Signal::SIGHUP);
    host.plug("wg0", "peer1");
    service.until("RELOADING=1");
    std::thread::sleep(Duration::from_millis(300));
    service.signal(Signal::SIGTERM);
    assert!(ends_at_once(&mut service), "at a reload: {}", service.said());
    assert!(service.said().contains("the guards remain on") || service.said().contains("NOT GUARDED"));
    drop(held);
    assert_eq!(portguard.status().interface, IFACE);
}

fn ends_at_once(service: &mut Service) -> bool {
    let begun = Instant::now();
    service.ended();
    begun.elapsed() < AT_ONCE
}

#[test]
fn who_only_reads_waits_for_nobody() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    let _held = lock(&host);
    for arguments in [&["status"][..], &["stats"], &["report"], &["doctor"]] {
        let output = portguard.run(arguments);
        assert!(!output.stderr.contains("waiting"), "{arguments:?}: {output:?}");
    }
}
