//! The conditions of an entry of the allowlist, as the program asks for them.
//!
//! The loader turns what the file says into what one guard needs: names of interfaces become one bit, and a time of day becomes a
//! time since boot. Entries without conditions have no record. A program whose list has no conditions at all does not have this code.

use core::num::NonZeroU32;

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

    /// What it permits over UDP.
    #[inline(always)]
    pub const fn permitted(&self) -> UdpCalls {
        UdpCalls::in_program(self.udp_calls)
    }

    /// Why a packet is denied, whatever it contains; `now` is asked only if the entry ends.
    #[inline(always)]
    pub fn denial(&self, now: impl FnOnce() -> u64) -> Option<Denial> {
        if self.is_elsewhere != 0 {
            return Some(Denial::WrongInterface);
        }
        if self.deadline != NEVER && now() >= self.deadline {
            return Some(Denial::Expired);
        }
        None
    }
}

/// What the list says of a source that it covers, in one register: 1 if the entry that decides restricts nothing, else two more than the
/// place of its [`Conditions`] in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Covered(NonZeroU32);

impl Covered {
    /// The entry restricts nothing.
    pub const WITHOUT_CONDITIONS: Self = Self(NonZeroU32::MIN);

    const FIRST_PLACE: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

    /// The entry's conditions are at this place.
    #[inline(always)]
    pub const fn with_conditions(place: u32) -> Self {
        Self(Self::FIRST_PLACE.saturating_add(place))
    }

    /// The place of the entry's conditions.
    #[inline(always)]
    pub const fn conditions(self) -> Option<u32> {
        self.0.get().checked_sub(Self::FIRST_PLACE.get())
    }

    /// As the result of a call; 0 if the list does not cover the source.
    #[inline(always)]
    pub fn word(covered: Option<Self>) -> u32 {
        covered.map_or(0, |it| it.0.get())
    }

    /// What [`Self::word`] was made of.
    #[inline(always)]
    pub fn from_word(word: u32) -> Option<Self> {
        NonZeroU32::new(word).map(Self)
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
    /// Adds to [`Budget::total`], so that no other CPU's addition is lost.
    fn add(&self, packets: u32);
}

/// The highest rate, in packets a second.
pub const HIGHEST_RATE: u32 = 1_000_000;

/// Takes so many of the `rate` packets of the second with this number: more than one if the kernel has merged them. Returns whether there
/// were so many.
///
/// Each CPU looks at the total before it adds to it. So in one second, at most `rate` packets are let pass, and for each further
/// CPU one more, with all that is merged into it; within any second that begins elsewhere, twice that. A CPU that is held up for a second between two of these
/// steps, as a virtual one can be, may let the second begin once more.
#[inline(always)]
pub fn take(budget: &impl SharedBudget, rate: u32, second: u32, packets: u32) -> bool {
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
    if total.wrapping_sub(begun) as i32 > rate as i32 - packets as i32 {
        return false;
    }
    budget.add(packets);
    true
}

#[cfg(test)]
mod tests;
