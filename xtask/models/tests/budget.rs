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
    windows: [AtomicU64; 2],
}

impl SharedBudget for Modelled {
    fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    fn window(&self, number: usize) -> u64 {
        self.windows[number].load(Ordering::Acquire)
    }

    fn set_window(&self, number: usize, window: u64) {
        self.windows[number].store(window, Ordering::Release);
    }

    fn add(&self, packets: u32) {
        self.total.fetch_add(packets.into(), Ordering::AcqRel);
    }
}

/// How many of these attempts, each in a second, were let pass in one of these seconds.
fn taken(budget: &Modelled, rate: u32, seconds: &[u32], counted: u32) -> u32 {
    seconds.iter().map(|second| u32::from(take(budget, rate, *second, 1) && *second == counted)).sum()
}

/// The fewest and the most packets that two CPUs together let pass in the second 2, over all interleavings.
fn extremes(rate: u32, first: &'static [u32], other: &'static [u32]) -> (u32, u32) {
    extremes_of(2, rate, first, other)
}

/// The same of another second.
fn extremes_of(counted: u32, rate: u32, first: &'static [u32], other: &'static [u32]) -> (u32, u32) {
    let found = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = std::sync::Arc::clone(&found);
    loom::model(move || {
        let budget = Arc::new(Modelled::default());
        let cpu = {
            let budget = Arc::clone(&budget);
            loom::thread::spawn(move || taken(&budget, rate, other, counted))
        };
        let sum = taken(&budget, rate, first, counted) + cpu.join().expect("no panic");
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

/// A CPU that stores the beginning of a second late, when another one has begun the next already, does not let this one begin again.
#[test]
fn a_second_begins_once_even_if_a_cpu_begins_the_one_before_too_late() {
    assert_eq!(extremes(1, &[1, 2], &[2, 2, 2]), (1, 2));
}

/// Two seconds later, it does: to prevent that takes an operation that Linux 5.10 does not have.
#[test]
fn a_second_begins_twice_if_a_cpu_is_two_seconds_late() {
    assert_eq!(extremes(1, &[0, 2], &[2, 2, 2]), (1, 2));
    assert_eq!(extremes_of(4, 1, &[2, 4], &[4, 4, 4]), (1, 3));
}

/// A budget of this machine.
#[derive(Debug, Default)]
struct OfThisMachine {
    total: Word,
    windows: [Word; 2],
}

impl SharedBudget for OfThisMachine {
    fn total(&self) -> u64 {
        self.total.load(SeqCst)
    }

    fn window(&self, number: usize) -> u64 {
        self.windows[number].load(SeqCst)
    }

    fn set_window(&self, number: usize, window: u64) {
        self.windows[number].store(window, SeqCst);
    }

    fn add(&self, packets: u32) {
        self.total.fetch_add(packets.into(), SeqCst);
    }
}

#[test]
fn a_flood_on_several_cpus_takes_what_there_is_in_each_second() {
    const CPUS: u32 = 4;
    const RATE: u32 = 100;
    let budget = OfThisMachine::default();
    for second in 1..=20 {
        let flood = || (0..5_000).filter(|_| take(&budget, RATE, second, 1)).count() as u32;
        let sum: u32 = std::thread::scope(|scope| {
            let cpus: Vec<_> = (0..CPUS).map(|_| scope.spawn(flood)).collect();
            cpus.into_iter().map(|cpu| cpu.join().expect("no panic")).sum()
        });
        assert!((RATE..RATE + CPUS).contains(&sum), "second {second}: {sum}");
    }
}
