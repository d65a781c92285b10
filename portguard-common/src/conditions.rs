//! The conditions of an entry of the allowlist, as the program asks for them.
//!
//! The loader turns what the file says into what one guard needs: names of interfaces become one bit, and a time of day becomes a
//! time since boot. Entries without conditions have no record. A program whose list has no conditions at all does not have this code.

use crate::calls::UdpCalls;
use crate::layout::Shared;
use crate::reason::Denial;

/// The conditions of one entry: an element of the map [`crate::names::CONDITIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Conditions {
    /// When the entry ends to allow, in nanoseconds of `CLOCK_BOOTTIME`; [`NEVER`] if it does not end.
    pub deadline: u64,
    /// What it permits over UDP: a [`UdpCalls`], as integer.
    pub udp_calls: u32,
    /// 1 if the entry is for other interfaces than that of the guard, else 0.
    pub is_elsewhere: u32,
    /// How many packets over UDP it lets pass in a second, over all CPUs; 0 if any number.
    pub rate: u32,
    /// Zero.
    pub reserved: u32,
    /// How many it has let pass.
    pub budget: Budget,
    /// When the entry ends, in nanoseconds of Unix time; [`NEVER`] if it does not end. The loader computes the deadline from it, and computes
    /// it again when the clock is set. The program does not use it.
    pub until: u64,
    /// Zero.
    pub reserved_too: u64,
}

// SAFETY: integers, without padding (asserted below); zeroes are an entry that has ended.
unsafe impl Shared for Conditions {}

const _: () = assert!(size_of::<Conditions>() == 64);

/// The deadline of an entry that does not end.
pub const NEVER: u64 = u64::MAX;

impl Conditions {
    /// No conditions, but the calls over UDP.
    pub const fn none(udp_calls: UdpCalls) -> Self {
        Self {
            deadline: NEVER,
            udp_calls: udp_calls as u32,
            is_elsewhere: 0,
            rate: 0,
            reserved: 0,
            budget: Budget { total: 0, windows: [0; 2] },
            until: NEVER,
            reserved_too: 0,
        }
    }

    /// Whether a list says the same in both: the deadline and what was let pass do not count.
    pub fn are_stated_as(&self, other: &Self) -> bool {
        let stated = |it: &Self| (it.until, it.udp_calls, it.is_elsewhere, it.rate);
        stated(self) == stated(other)
    }

    /// The same, with the deadline as of a time in nanoseconds of Unix time: what has ended by then is over, and nothing else ends. Without a
    /// time, they stay as they are.
    #[must_use]
    pub const fn at(self, time: Option<u64>) -> Self {
        match time {
            None => self,
            Some(time) => Self { deadline: if self.until <= time { 0 } else { NEVER }, ..self },
        }
    }

    /// What they say of a packet before its content matters; `now` is asked only if the entry ends.
    #[inline(always)]
    pub fn terms(&self, number: u32, now: impl FnOnce() -> u64) -> Terms {
        if self.is_elsewhere != 0 {
            return Terms::denied(Denial::WrongInterface);
        }
        if self.deadline != NEVER && now() >= self.deadline {
            return Terms::denied(Denial::Expired);
        }
        let rated = if self.rate == 0 { 0 } else { u64::from(number) + 1 };
        Terms(u64::from(self.udp_calls & 0xff) << Terms::CALLS_SHIFT | rated << Terms::RATED_SHIFT)
    }
}

/// What the list says of a source that it covers, in one register: in bits 0 to 7 one more than the number of the [`Denial`], or 0; in
/// bits 8 to 15 the [`UdpCalls`]; from bit 32 on one more than the number of the [`Conditions`] whose rate is to be asked, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms(pub u64);

impl Terms {
    const CALLS_SHIFT: u32 = 8;
    const RATED_SHIFT: u32 = 32;

    /// Its packets are denied, whatever they contain.
    #[inline(always)]
    pub const fn denied(denial: Denial) -> Self {
        Self(denial as u64 + 1)
    }

    /// These calls are permitted over UDP, and anything over TCP.
    #[inline(always)]
    pub const fn permit(calls: UdpCalls) -> Self {
        Self((calls as u64) << Self::CALLS_SHIFT)
    }

    /// Why its packets are denied, whatever they contain.
    #[inline(always)]
    pub fn denial(self) -> Option<Denial> {
        (self.0 as u8).checked_sub(1).map(Denial::from_number)
    }

    /// What is permitted over UDP. Fails closed: a number that is none of [`UdpCalls`] permits no calls.
    #[inline(always)]
    pub const fn udp_calls(self) -> UdpCalls {
        const ALL: u8 = UdpCalls::All as u8;
        const LOOKUPS: u8 = UdpCalls::Lookups as u8;
        match (self.0 >> Self::CALLS_SHIFT) as u8 {
            ALL => UdpCalls::All,
            LOOKUPS => UdpCalls::Lookups,
            _ => UdpCalls::None,
        }
    }

    /// The number of the conditions whose rate is to be asked.
    #[inline(always)]
    pub const fn rated(self) -> Option<u32> {
        ((self.0 >> Self::RATED_SHIFT) as u32).checked_sub(1)
    }
}

/// How many packets were let pass: a total that only grows, and what it was when a second began. All CPUs share it.
///
/// Even and odd seconds have a window each. So a CPU that is late, and stores the beginning of a second that is over, does not touch the window of
/// the next one.
///
/// Linux before 5.12 has no atomic operation for BPF programs that returns a value, so no CPU can take one of a number that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// How many packets were let pass.
    pub total: u64,
    /// For even and for odd seconds: the number of the last one in the upper half, and the lower half of the total at its beginning in the
    /// lower half.
    pub windows: [u64; 2],
}

// SAFETY: integers of the same size; zeroes are a budget of which nothing was taken.
unsafe impl Shared for Budget {}

/// Access to a [`Budget`], which other CPUs read and write at the same time.
pub trait SharedBudget {
    /// [`Budget::total`].
    fn total(&self) -> u64;
    /// One of [`Budget::windows`]; `number` is 0 or 1.
    fn window(&self, number: usize) -> u64;
    /// Stores one of [`Budget::windows`].
    fn set_window(&self, number: usize, window: u64);
    /// Adds one to [`Budget::total`], so that no other CPU's addition is lost.
    fn add_one(&self);
}

/// The highest rate, in packets a second.
pub const HIGHEST_RATE: u32 = 1_000_000;

/// Takes one of the `rate` packets of the second with this number. Returns whether there was one.
///
/// Each CPU looks at the total before it adds to it. So in one second, at most `rate` packets are let pass, and one more for each further
/// CPU; within any second that begins elsewhere, twice that. A CPU that is held up for a second between two of these
/// steps, as a virtual one can be, may let the second begin once more.
#[inline(always)]
pub fn take(budget: &impl SharedBudget, rate: u32, second: u32) -> bool {
    // The total first: what is let pass in a new second comes after its beginning is stored. So a CPU that finds the old second has not
    // counted any of it, and cannot begin the new second too late.
    let total = budget.total() as u32;
    let number = second as usize & 1;
    let window = budget.window(number);
    let begun = if (second.wrapping_sub((window >> 32) as u32) as i32) > 0 {
        budget.set_window(number, u64::from(second) << 32 | u64::from(total));
        total
    } else {
        window as u32
    };
    // Another CPU may have begun the second after the total was read here: the difference is then below zero.
    if total.wrapping_sub(begun) as i32 >= rate as i32 {
        return false;
    }
    budget.add_one();
    true
}

#[cfg(test)]
mod tests;
