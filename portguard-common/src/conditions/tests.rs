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

    fn add_one(&self) {
        self.total.set(self.total.get() + 1);
    }
}

fn taken(budget: &Alone, rate: u32, second: u32, attempts: usize) -> usize {
    (0..attempts).filter(|_| take(budget, rate, second)).count()
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
fn a_second_that_another_cpu_begins_meanwhile_denies_nothing() {
    let budget = Alone::default();
    assert_eq!(taken(&budget, 5, 1, 3), 3);
    // Another CPU has begun the second with a greater total than was read here.
    budget.windows[0].set(2 << 32 | 4);
    assert!(take(&budget, 5, 2));
}

#[test]
fn conditions_are_asked_in_the_order_of_the_document() {
    let none = Conditions::none(UdpCalls::Lookups);
    let unasked = || -> u64 { unreachable!("an entry that does not end asks for no time") };
    let terms = none.terms(7, unasked);
    assert_eq!((terms.denial(), terms.udp_calls(), terms.rated()), (None, UdpCalls::Lookups, None));
    assert_eq!(terms, Terms::permit(UdpCalls::Lookups));

    let rated = Conditions { rate: 9, ..none }.terms(7, unasked);
    assert_eq!((rated.denial(), rated.udp_calls(), rated.rated()), (None, UdpCalls::Lookups, Some(7)));

    let ends = Conditions { deadline: 100, rate: 9, ..none };
    assert_eq!(ends.terms(7, || 99), rated);
    for now in [100, u64::MAX] {
        assert_eq!(ends.terms(7, || now), Terms::denied(Denial::Expired));
    }
    let elsewhere = Conditions { is_elsewhere: 1, ..ends };
    assert_eq!(elsewhere.terms(7, unasked).denial(), Some(Denial::WrongInterface));
}

#[test]
fn terms_say_what_they_were_made_of() {
    for denial in Denial::ALL {
        assert_eq!(Terms::denied(denial).denial(), Some(denial));
    }
    for calls in UdpCalls::ALL {
        let terms = Terms::permit(calls);
        assert_eq!((terms.denial(), terms.udp_calls(), terms.rated()), (None, calls, None));
    }
    assert_eq!(Terms(77 << 8).udp_calls(), UdpCalls::None, "what is unknown permits nothing");
}
