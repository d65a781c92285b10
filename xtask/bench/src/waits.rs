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
        // Also if the work panics, or the threads would go on for good.
        let end = End(ended);
        let done = work();
        drop(end);
        let mut longest = Duration::ZERO;
        for watch in watches {
            longest = longest.max(watch.join().ok().context("a thread that waits has panicked")??);
        }
        Ok((done?, longest))
    })
}

/// Ends the watches when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
    fn the_value_of_the_work_comes_with_the_longest_wait() {
        let (value, waited) = during(|| {
            thread::sleep(Duration::from_millis(30));
            Ok(7)
        })
        .expect("waiting");
        assert_eq!(value, 7);
        assert!(waited > Duration::ZERO, "no thread wakes at the moment that it asked for");
    }

    #[test]
    fn watches_end_when_the_work_fails_or_panics() {
        assert!(during::<()>(|| anyhow::bail!("it failed")).is_err());
        let panicked = std::panic::catch_unwind(|| during::<()>(|| panic!("a panic of the work")));
        assert!(panicked.is_err());
    }
}
