//! A process that is killed at a system call of its own, not at a moment of chance.

use std::ops::Range;
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
    trace(command, |made, _| made == calls).end
}

/// The same, up to the first system call that renames a file.
pub(crate) fn run_to_rename(command: &mut Command) -> Traced {
    trace(command, |_, call| renames(call)).end
}

/// Runs a command that must succeed, and returns the numbers of its system calls from the first one on that changes
/// something outside the process: each is one to kill it at. A kill before leaves what there was.
#[track_caller]
pub(crate) fn system_calls(command: &mut Command) -> Range<u64> {
    system_calls_until(command, 0)
}

/// The same, for a command that must end with this exit code.
#[track_caller]
pub(crate) fn system_calls_until(command: &mut Command, code: i32) -> Range<u64> {
    let Trace { end, made, first_change } = trace(command, |_, _| false);
    assert_eq!(end, Traced::Ended(code), "{command:?}");
    first_change.expect("it changes something")..made
}

/// What came of a traced process.
struct Trace {
    end: Traced,
    /// How many system calls it has made.
    made: u64,
    /// The number of the first one that changes something outside the process.
    first_change: Option<u64>,
}

/// The system call that a process is about to make: its number, and its first argument.
fn entered(pid: Pid) -> (i64, u64) {
    let info = ptrace::syscall_info(pid).expect("a process at a system call");
    // SAFETY: the process is at the entry of a system call, so the kernel has filled this arm.
    let entry = unsafe { info.u.entry };
    (i64::try_from(entry.nr).expect("a small number"), entry.args[0])
}

/// Whether a system call renames a file.
fn renames((number, _): (i64, u64)) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_rename {
        return true;
    }
    matches!(number, libc::SYS_renameat | libc::SYS_renameat2)
}

/// Whether a system call can change something outside the process: in a file system, in the kernel's maps, programs and links, or in another
/// process.
fn changes_something((number, argument): (i64, u64)) -> bool {
    // `BPF_OBJ_GET`, `BPF_MAP_LOOKUP_ELEM`, and those that ask for information or look up in batches.
    const READS: [u64; 6] = [1, 4, 7, 15, 24, 10];
    match number {
        libc::SYS_bpf => !READS.contains(&argument),
        libc::SYS_mkdirat
        | libc::SYS_unlinkat
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_mount
        | libc::SYS_clone
        | libc::SYS_clone3
        | libc::SYS_kill => true,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir | libc::SYS_unlink | libc::SYS_rmdir | libc::SYS_rename | libc::SYS_fork => true,
        _ => false,
    }
}

/// Runs a command until it is about to make a system call at which it is to be killed; `is_last` gets the number of those that it has made, and
/// the call.
#[expect(clippy::zombie_processes, reason = "it is waited for as a tracer does")]
fn trace(command: &mut Command, is_last: impl Fn(u64, (i64, u64)) -> bool) -> Trace {
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
    let mut first_change = None;
    loop {
        ptrace::syscall(pid, pass_on.take()).expect("going on");
        match wait() {
            WaitStatus::PtraceSyscall(_) if entering && is_last(made, entered(pid)) => {
                child.kill().expect("killing");
                assert!(matches!(wait(), WaitStatus::Signaled(_, Signal::SIGKILL, _)));
                return Trace { end: Traced::Killed, made, first_change };
            }
            WaitStatus::PtraceSyscall(_) => {
                if entering && first_change.is_none() && changes_something(entered(pid)) {
                    first_change = Some(made);
                }
                made += u64::from(entering);
                entering = !entering;
            }
            WaitStatus::Stopped(_, signal) => pass_on = Some(signal),
            WaitStatus::Exited(_, code) => {
                return Trace { end: Traced::Ended(code), made, first_change };
            }
            other => panic!("{other:?}"),
        }
    }
}
