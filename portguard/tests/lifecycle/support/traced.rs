//! A process that is killed at a system call of its own, not at a moment of chance.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::panic;
use std::process::{Command, Stdio};
use std::thread;

use nix::errno::Errno;
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

/// Runs a command until it is about to make a system call at which it is to be killed; `is_last` gets the number of those that all its threads
/// have made, and the call.
fn trace(command: &mut Command, is_last: impl Fn(u64, (i64, u64)) -> bool + Send) -> Trace {
    // By a thread that has no other children: it waits for whichever of its own stops.
    thread::scope(|scope| scope.spawn(|| trace_here(command, is_last)).join())
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

#[expect(clippy::zombie_processes, reason = "it is waited for as a tracer does")]
fn trace_here(command: &mut Command, is_last: impl Fn(u64, (i64, u64)) -> bool) -> Trace {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from));
    }
    let mut child = command.spawn().expect("starting");
    let main = Pid::from_raw(child.id().try_into().expect("a process id"));
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let wait = || waitpid(None, Some(flags)).expect("a traced process");
    assert_eq!(wait(), WaitStatus::Stopped(main, Signal::SIGTRAP), "it stops when it has been executed");
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
        | ptrace::Options::PTRACE_O_TRACECLONE
        | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(main, options).expect("tracing");
    // A thread goes on to the entry of its next call, or to the end of it.
    let go_on = |thread, signal| match ptrace::syscall(thread, signal) {
        // It ends with the others.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("going on: {error}"),
    };
    let (mut made, mut first_change) = (0, None);
    // Whether each thread is at the entry of a call when it stops for one.
    let mut entering = BTreeMap::from([(main, true)]);
    go_on(main, None);
    loop {
        match wait() {
            WaitStatus::PtraceSyscall(thread) => {
                let enters = entering.entry(thread).or_insert(true);
                if *enters {
                    let call = entered(thread);
                    if is_last(made, call) {
                        child.kill().expect("killing");
                        while !matches!(wait(), WaitStatus::Signaled(it, Signal::SIGKILL, _) if it == main) {}
                        return Trace { end: Traced::Killed, made, first_change };
                    }
                    first_change = first_change.or(changes_something(call).then_some(made));
                    made += 1;
                }
                *enters = !*enters;
                go_on(thread, None);
            }
            // A new thread begins with this.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) if !entering.contains_key(&thread) => {
                entering.insert(thread, true);
                go_on(thread, None);
            }
            WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
            WaitStatus::PtraceEvent(thread, ..) => go_on(thread, None),
            WaitStatus::Exited(it, code) if it == main => {
                return Trace { end: Traced::Ended(code), made, first_change };
            }
            WaitStatus::Exited(..) => {}
            other => panic!("{other:?}"),
        }
    }
}
