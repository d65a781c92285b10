//! Processes that are waited for with a deadline and never outlive who started them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::interrupt::{self, Interrupted};

/// How long a set-up command may take.
const SETUP_LIMIT: Duration = Duration::from_secs(300);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A command for a program of the system: also found where an administrator's PATH has it and a user's has not.
pub(super) fn tool(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    // The output is read by programs: it must not depend on the user's language.
    command.env("PATH", path).env("LC_ALL", "C");
    command
}

/// Looks at `condition` until it holds. Fails after `limit` with `what` was waited for, or when interrupted.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        interrupt::check()?;
        ensure!(start.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(POLL);
    }
    Ok(())
}

/// A running process with its output. Killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    // Files, not pipes: they never fill up, and a daemon's child that keeps one open keeps nobody waiting.
    stdout: File,
    stderr: File,
}

impl Process {
    /// Starts it in a process group of its own: Ctrl-C is for this process, which then ends the others in order.
    /// The kernel kills the process when the thread that started it ends.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
        let stdout = tempfile::tempfile().context("cannot create a temporary file")?;
        let stderr = tempfile::tempfile().context("cannot create a temporary file")?;
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).process_group(0);
        // SAFETY: the hook runs between fork and exec and makes system calls: it neither allocates nor locks. No handler is
        // installed.
        unsafe {
            command.pre_exec(|| {
                // This process may have been started by nohup(1), or in the background of a script (POSIX sh): then it
                // ignores these, and so would its children.
                for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
                    signal(ignored, SigHandler::SigDfl)?;
                }
                Ok(set_pdeathsig(Signal::SIGKILL)?)
            });
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("cannot start {name}: not installed. Run: cargo xtask setup"),
            _ => anyhow!("cannot start {name}: {error}"),
        })?;
        Ok(Self { name, child, stdout, stderr })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `condition` holds; fails with the output when the process ends first or `limit` is over.
    pub fn ready(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let child = &mut self.child;
        let result = wait_until(what, limit, || {
            if let Some(status) = child.try_wait()? {
                bail!("it ended early: {status}");
            }
            condition()
        });
        result.map_err(|error| match error.is::<Interrupted>() {
            true => error,
            false => anyhow!("{} is not ready: {error:#}; its output:\n{}", self.name, self.output()),
        })
    }

    /// Waits for the end, `None` when `limit` is over. Ctrl-C does not cut it short: taking down needs it, too.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            match self.child.try_wait()? {
                None if start.elapsed() < limit => thread::sleep(POLL),
                status => return Ok(status),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id())?);
        nix::sys::signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    fn completed(&self, status: ExitStatus, elapsed: Duration) -> Completed {
        Completed { status, stdout: contents(&self.stdout), stderr: contents(&self.stderr), elapsed }
    }

    /// What it has written so far, to stdout and then to stderr.
    pub fn output(&self) -> String {
        contents(&self.stdout) + &contents(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Completed {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

/// What became of a command that had a deadline.
#[derive(Debug)]
pub enum Outcome {
    /// It ended by itself.
    Completed(Completed),
    /// The deadline came first, and it was killed.
    TimedOut,
}

/// Runs a command, but not for longer than `limit`, and not beyond Ctrl-C.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<Outcome> {
    let start = Instant::now();
    let mut process = Process::spawn(command)?;
    loop {
        if let Some(status) = process.wait(POLL)? {
            return Ok(Outcome::Completed(process.completed(status, start.elapsed())));
        }
        interrupt::check()?;
        if start.elapsed() >= limit {
            return Ok(Outcome::TimedOut);
        }
    }
}

/// Runs a command that has to succeed, and soon. Ctrl-C does not cut it short: taking down needs it, too.
pub fn run(command: &mut Command) -> Result<Completed> {
    let name = command.get_program().display().to_string();
    let start = Instant::now();
    let mut process = Process::spawn(command)?;
    let Some(status) = process.wait(SETUP_LIMIT)? else {
        bail!("{name} did not end within {SETUP_LIMIT:?}; its output:\n{}", process.output())
    };
    ensure!(status.success(), "{name} failed ({status}): {}", process.output().trim_end());
    Ok(process.completed(status, start.elapsed()))
}

fn contents(file: &File) -> String {
    // read_at leaves the position alone: the process shares it, and goes on writing there.
    let mut bytes = vec![0; file.metadata().map_or(0, |file| file.len() as usize)];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(its output cannot be read: {error})"),
    }
}
