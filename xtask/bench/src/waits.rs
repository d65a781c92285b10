//! How long other work on the host waits for a CPU: a thread on each CPU, which wakes often, and sees how late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cpu;

/// How often each thread wakes.
const INTERVAL: Duration = Duration::from_micros(500);

/// Does `work`, and returns its value with the longest wait on any CPU meanwhile.
pub(super) fn during<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let ended = &AtomicBool::new(false);
    thread::scope(|scope| {
        let watches: Vec<_> =
            cpu::usable()?.into_iter().map(|cpu| scope.spawn(move || longest(cpu, ended))).collect();
        let done = work();
        ended.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for watch in watches {
            longest = longest.max(watch.join().ok().context("a thread that waits has panicked")??);
        }
        Ok((done?, longest))
    })
}

/// The longest wait of this thread on a CPU, until the work has ended.
fn longest(cpu: usize, ended: &AtomicBool) -> Result<Duration> {
    cpu::stay_on(cpu)?;
    let mut longest = Duration::ZERO;
    while !ended.load(Ordering::Relaxed) {
        let slept = Instant::now();
        thread::sleep(INTERVAL);
        longest = longest.max(slept.elapsed().saturating_sub(INTERVAL));
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_holds_a_cpu_is_seen_by_who_waits_for_it() {
        let busy = Duration::from_millis(30);
        let (value, waited) = during(|| {
            thread::sleep(busy);
            Ok(7)
        })
        .expect("waiting");
        assert_eq!(value, 7);
        assert!(waited > Duration::ZERO, "a thread wakes some time after it wanted to");
    }
}
