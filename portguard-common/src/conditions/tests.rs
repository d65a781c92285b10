use core::cell::Cell;

use super::*;

#[derive(Default)]
struct Alone {
    total: Cell<u64>,
    windows: [Cell<u64>; 2],
}

impl SharedBudget for Alone {
    fn total(&self) -> u64 {
        self.total.get()
    }

    fn window(&self, number: usize) -> u64 {
        self.windows[number].get()
    }

    fn set_window(&self, number: usize, window: u64) {
        self.windows[number].set(window);
    }

    fn add(&self, packets: u32) {
        self.total.set(self.total.get() + u64::from(packets));
    }
}

fn taken(budget: &Alone, rate: u32, second: u32, attempts: usize) -> usize {
    (0..attempts).filter(|_| take(budget, rate, second, 1)).count()
}

#[test]
fn each_second_has_its_own_packets() {
    let budget = Alone::default();
    for second in 1..10 {
        assert_eq!(taken(&budget, 5, second, 100), 5, "second {second}");
    }
    assert_eq!(taken(&budget, 5, 1000, 3), 3);
    assert_eq!(taken(&budget, 5, 1000, 3), 2);
}

#[test]
fn totals_beyond_32_bits_and_late_seconds_change_nothing() {
    let budget = Alone::default();
    budget.total.set(u64::from(u32::MAX) - 2);
    assert_eq!(taken(&budget, 5, 6, 100), 5);
    assert_eq!(taken(&budget, 5, 7, 100), 5);
    // A CPU that was interrupted begins neither the old second nor the new one again.
    assert_eq!(taken(&budget, 5, 6, 100), 0);
    assert_eq!(taken(&budget, 5, 7, 100), 0);
    assert_eq!(taken(&budget, HIGHEST_RATE, 8, 1000), 1000);
}

#[test]
fn what_is_merged_is_taken_as_a_whole() {
    let budget = Alone::default();
    assert!(take(&budget, 5, 1, 3));
    // One that is smaller may come after one that was too large.
    assert!(!take(&budget, 5, 1, 3));
    assert!(take(&budget, 5, 1, 2));
    assert_eq!(taken(&budget, 5, 1, 10), 0);
    assert!(!take(&budget, 5, 2, 6));
    assert!(take(&budget, 5, 2, 5));
}

#[test]
fn a_second_that_another_cpu_begins_meanwhile_denies_nothing() {
    let budget = Alone::default();
    assert_eq!(taken(&budget, 5, 1, 3), 3);
    // Another CPU has begun the second with a greater total than was read here.
    budget.windows[0].set(2 << 32 | 4);
    assert!(take(&budget, 5, 2, 1));
}

#[test]
fn conditions_are_asked_in_the_order_of_the_document() {
    let none = Conditions::none(UdpCalls::Lookups);
    let unasked = || -> u64 { unreachable!("an entry that does not end asks for no time") };
    assert_eq!(none.denial(unasked), None);
    assert_eq!(none.permitted(), UdpCalls::Lookups);

    let ends = Conditions { deadline: 100, ..none };
    assert_eq!(ends.denial(|| 99), None);
    for now in [100, u64::MAX] {
        assert_eq!(ends.denial(|| now), Some(Denial::Expired));
    }
    let elsewhere = Conditions { is_elsewhere: 1, ..ends };
    assert_eq!(elsewhere.denial(unasked), Some(Denial::WrongInterface));
}

#[test]
fn calls_that_are_unknown_are_not_permitted() {
    for calls in UdpCalls::ALL {
        assert_eq!(Conditions::none(calls).permitted(), calls);
    }
    for udp_calls in [3, 77, 256, u32::MAX] {
        let unknown = Conditions { udp_calls, ..Conditions::none(UdpCalls::All) };
        assert_eq!(unknown.permitted(), UdpCalls::None, "{udp_calls}");
    }
}

#[test]
fn what_a_list_says_of_a_source_fits_into_a_word() {
    let without = Covered::WITHOUT_CONDITIONS;
    assert_eq!(without.conditions(), None);
    for place in [0, 1, 77, u32::MAX - 2] {
        assert_eq!(Covered::with_conditions(place).conditions(), Some(place));
    }
    // No list has so many; it must not become an entry without conditions.
    assert!(Covered::with_conditions(u32::MAX).conditions().is_some());
    for covered in
        [None, Some(without), Some(Covered::with_conditions(0)), Some(Covered::with_conditions(77))]
    {
        assert_eq!(Covered::from_word(Covered::word(covered)), covered);
    }
}
