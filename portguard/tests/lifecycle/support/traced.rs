//! A process that is killed at a system call of its own, not at a moment of chance.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a traced process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traced {
    /// It was killed when it was about to make the system call.
    Killed,
    /// It ended with this exit code before it had made so many.
    Ended(i32),
}

/// Runs a command up to its system call of that number, from 0 on, and kills it before the kernel carries that out: so
/// it has made exactly `calls` of them since it was started. A process has ended by itself if it makes fewer.
///
/// What it prints is lost.
pub(crate) fn run_to(command: &mut Command, calls: u64) -> Traced {
    trace(command, calls).0
}

/// Runs a command that must succeed, and returns how many system calls it makes: each number below that is one to kill
/// it at.
#[track_caller]
pub(crate) fn system_calls(command: &mut Command) -> u64 {
    system_calls_until(command, 0)
}

/// The same, for a command that must end with this exit code.
#[track_caller]
pub(crate) fn system_calls_until(command: &mut Command, code: i32) -> u64 {
    let (traced, made) = trace(command, u64::MAX);
    assert_eq!(traced, Traced::Ended(code), "{command:?}");
    made
}

/// Runs a command until it has made `calls` system calls, and returns how many it has made.
#[expect(clippy::zombie_processes, reason = "it is waited for as a tracer does")]
fn trace(command: &mut Command, calls: u64) -> (Traced, u64) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
    }
    let mut child = command.spawn().expect("starting");
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    let wait = || waitpid(pid, Some(WaitPidFlag::__WALL)).expect("a traced process");
    assert_eq!(wait(), WaitStatus::Stopped(pid, Signal::SIGTRAP), "it stops when it has been executed");
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .expect("tracing");
    let (mut made, mut entering, mut pass_on) = (0, true, None);
    loop {
        ptrace::syscall(pid, pass_on.take()).expect("going on");
        match wait() {
            WaitStatus::PtraceSyscall(_) if entering && made == calls => {
                child.kill().expect("killing");
                assert!(matches!(wait(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
                return (Traced::Killed, made);
            }
            WaitStatus::PtraceSyscall(_) => {
                made += u64::from(entering);
                entering = !entering;
            }
            WaitStatus::Stopped(_, signal) => pass_on = Some(signal),
            WaitStatus::Exited(_, code) => return (Traced::Ended(code), made),
            other => panic!("{other:?}"),
        }
    }
}
