//! CPUs, and the time that a thread has had of one.

use std::fs;
use std::panic;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Runs `work` in a thread that stays on one CPU, and returns its value.
pub(super) fn on<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        stay_on(cpu)?;
        work()
    };
    thread::scope(|scope| scope.spawn(pinned).join()).unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Keeps this thread on one CPU.
pub(super) fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("cannot stay on CPU {cpu}"))
}

/// The CPUs that we may use.
pub(super) fn usable() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which CPUs we may use")?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// The CPU time that this thread has had.
pub(super) fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no clock of the thread's CPU time")?.into())
}

/// The thread that handles softirqs of a CPU when they become too many.
#[derive(Debug)]
pub(super) struct SoftirqThread(PathBuf);

/// Finds the thread of that CPU.
pub(super) fn softirq_thread(cpu: usize) -> Result<SoftirqThread> {
    let name = format!("ksoftirqd/{cpu}\n");
    let processes = fs::read_dir("/proc").context("cannot list processes")?;
    let found = processes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|process| fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm == name));
    found
        .map(|process| SoftirqThread(process.join("schedstat")))
        .with_context(|| format!("no {}", name.trim()))
}

impl SoftirqThread {
    /// The CPU time that it has had.
    pub(super) fn time(&self) -> Result<Duration> {
        // In nanoseconds: on the CPU, waiting for it; and the number of times.
        let text =
            fs::read_to_string(&self.0).with_context(|| format!("cannot read {}", self.0.display()))?;
        let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
        nanoseconds.map(Duration::from_nanos).with_context(|| format!("no time in {text}"))
    }
}

/// The name that the CPU gives itself.
pub(super) fn name() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
