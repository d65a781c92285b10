//! How many packets a budget lets pass while several CPUs take from it: in loom, which runs all interleavings, and with threads of this
//! machine.

use std::sync::atomic::{AtomicU64 as Word, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use portguard_common::conditions::{SharedBudget, take};

/// A budget on a CPU that keeps the order of its loads, and that of its stores: x86-64.
#[derive(Debug, Default)]
struct Modelled {
    total: AtomicU64,
    window: AtomicU64,
}

impl SharedBudget for Modelled {
    fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    fn window(&self) -> u64 {
        self.window.load(Ordering::Acquire)
    }

    fn set_window(&self, window: u64) {
        self.window.store(window, Ordering::Release);
    }

    fn add_one(&self) {
        self.total.fetch_add(1, Ordering::AcqRel);
    }
}

/// How many of these attempts, each in a second, were let pass in the second 2.
fn taken(budget: &Modelled, rate: u32, seconds: &[u32]) -> u32 {
    seconds.iter().map(|second| u32::from(take(budget, rate, *second) && *second == 2)).sum()
}

/// The most and the fewest packets that two CPUs together let pass in the second 2, over all interleavings.
fn extremes(rate: u32, first: &'static [u32], other: &'static [u32]) -> (u32, u32) {
    let found = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = std::sync::Arc::clone(&found);
    loom::model(move || {
        let budget = Arc::new(Modelled::default());
        let cpu = {
            let budget = Arc::clone(&budget);
            loom::thread::spawn(move || taken(&budget, rate, other))
        };
        let sum = taken(&budget, rate, first) + cpu.join().expect("no panic");
        found.lock().expect("no panic").push(sum);
    });
    let all = all.lock().expect("no panic");
    (*all.iter().min().expect("an interleaving"), *all.iter().max().expect("an interleaving"))
}

#[test]
fn two_cpus_take_what_there_is_and_at_most_one_more() {
    assert_eq!(extremes(1, &[2, 2], &[2, 2]), (1, 2));
    assert_eq!(extremes(2, &[2, 2], &[2, 2]), (2, 3));
}

/// A CPU that stores the beginning of a second when another one has begun the next already lets this one begin again. To prevent that, it
/// takes an operation that Linux 5.10 does not have.
#[test]
fn a_second_begins_twice_if_a_cpu_begins_the_one_before_too_late() {
    assert_eq!(extremes(1, &[1, 2], &[2, 2, 2]), (1, 3));
}

/// A budget of this machine.
#[derive(Debug, Default)]
struct OfThisMachine {
    total: Word,
    window: Word,
}

impl SharedBudget for OfThisMachine {
    fn total(&self) -> u64 {
        self.total.load(SeqCst)
    }

    fn window(&self) -> u64 {
        self.window.load(SeqCst)
    }

    fn set_window(&self, window: u64) {
        self.window.store(window, SeqCst);
    }

    fn add_one(&self) {
        self.total.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_flood_on_several_cpus_takes_what_there_is_in_each_second() {
    const CPUS: u32 = 4;
    const RATE: u32 = 100;
    let budget = OfThisMachine::default();
    for second in 1..=20 {
        let flood = || (0..5_000).filter(|_| take(&budget, RATE, second)).count() as u32;
        let sum: u32 = std::thread::scope(|scope| {
            let cpus: Vec<_> = (0..CPUS).map(|_| scope.spawn(flood)).collect();
            cpus.into_iter().map(|cpu| cpu.join().expect("no panic")).sum()
        });
        assert!((RATE..RATE + CPUS).contains(&sum), "second {second}: {sum}");
    }
}
