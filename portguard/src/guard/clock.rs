//! Turns the stamps of the kernel program into times of day.
//!
//! A stamp is in jiffies, because to read them costs one load where a clock costs a call; how long a jiffy is, a
//! kernel need not say. So the guard keeps one pair of (jiffies, nanoseconds since boot) from when its counters began,
//! and reads another one now: between the two, time is a straight line.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use portguard_common::epoch::Epoch;
use portguard_common::sources::{STAMP_SHIFT, Stamp};

use crate::error::{Error, Result};

/// The clock program of an instance.
#[derive(Debug)]
pub struct Clock {
    program: Xdp,
}

/// One moment, on the clocks of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// `jiffies_64`.
    pub jiffies: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic: u64,
}

impl Clock {
    /// Opens a pinned clock program.
    pub fn open(pin: &Path) -> Result<Self> {
        Xdp::from_pin(pin, XdpAttachType::Interface)
            .map(|program| Self { program })
            .map_err(|error| Error::failed(format!("cannot use {}", pin.display())).caused_by(error))
    }

    /// The time now.
    pub fn now(&self) -> Result<Moment> {
        let frame = [0_u8; 64];
        let mut clocks = [0_u8; 64];
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut clocks),
            ..TestRunOptions::default()
        };
        self.program
            .test_run(options)
            .map_err(|error| Error::failed("cannot read the kernel's clocks").caused_by(error))?;
        let word = |at: usize| {
            let mut bytes = [0_u8; 8];
            bytes.copy_from_slice(&clocks[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        Ok(Moment { jiffies: word(0), monotonic: word(8) })
    }
}

/// Nanoseconds of Unix time.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// Nanoseconds of `CLOCK_BOOTTIME`: since boot, suspended or not. Nobody sets it.
pub(super) fn boot_now() -> u64 {
    nanoseconds_of(libc::CLOCK_BOOTTIME)
}

/// A time that a pinned map of this ABI holds, in nanoseconds of Unix time. Units start before the wall clock is right, so
/// since ABI 5 maps hold times since boot, and the wall clock of now says which time of day that was.
pub(super) fn unix_time(abi: u32, stored: u64) -> u64 {
    if is_unix_time(abi) { stored } else { stored.min(boot_now()).saturating_add(unix_time_of_boot()) }
}

/// A time that a pinned map of this ABI holds, in nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn boot_time(abi: u32, stored: u64) -> u64 {
    if is_unix_time(abi) { stored.min(unix_now()).saturating_sub(unix_time_of_boot()) } else { stored }
}

/// A time to come, of `CLOCK_BOOTTIME`, in nanoseconds of Unix time.
pub(super) fn unix_time_to_come(boot: u64) -> u64 {
    boot.saturating_add(unix_time_of_boot())
}

/// When this host booted, by the wall clock of now; to a millisecond, so that one and the same time is told the same way
/// whenever it is asked for.
fn unix_time_of_boot() -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    let exact = unix_now().saturating_sub(boot_now());
    (exact + MILLISECOND / 2) / MILLISECOND * MILLISECOND
}

/// Whether maps of this ABI hold the wall clock.
fn is_unix_time(abi: u32) -> bool {
    abi < 5
}

fn nanoseconds_of(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable. It cannot fail for the clocks that portguard asks for.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How far `CLOCK_MONOTONIC` is behind Unix time.
#[derive(Debug, Clone, Copy)]
pub struct Uptime {
    behind: u64,
}

impl Uptime {
    /// As it is now.
    pub fn now() -> Self {
        Self { behind: unix_now().saturating_sub(nanoseconds_of(libc::CLOCK_MONOTONIC)) }
    }

    /// Nanoseconds of `CLOCK_MONOTONIC` as nanoseconds of Unix time.
    pub fn unix_time(self, monotonic: u64) -> u64 {
        self.behind.saturating_add(monotonic)
    }
}

/// How to read stamps that were made up to some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    /// When the counters began, in nanoseconds of Unix time.
    since: u64,
    now: Moment,
    unix_now: u64,
    nanoseconds_per_jiffy: Ratio,
}

impl Calendar {
    /// A calendar from the beginning of the counters, which was `since`, to `now`, which was `unix_now`: both in nanoseconds
    /// of Unix time.
    pub(super) fn new(epoch: Epoch, since: u64, now: Moment, unix_now: u64) -> Self {
        let nanoseconds = now.monotonic.saturating_sub(epoch.monotonic);
        let jiffies = now.jiffies.saturating_sub(epoch.jiffies).max(1);
        let nanoseconds_per_jiffy = Ratio::new(nanoseconds, jiffies);
        Self { since: since.min(unix_now), now, unix_now, nanoseconds_per_jiffy }
    }

    /// The time of a stamp, in nanoseconds of Unix time; never before the counters began, and never after now.
    pub(super) fn time(&self, stamp: Stamp) -> u64 {
        let age = self.now.jiffies.saturating_sub(self.jiffies(stamp));
        let age = self.nanoseconds_per_jiffy.of(age).min(self.nanoseconds_per_jiffy.numerator);
        self.unix_now.saturating_sub(age).max(self.since)
    }

    /// The jiffies in the middle of a stamp's, in the 2^37 jiffies before now.
    fn jiffies(&self, stamp: Stamp) -> u64 {
        let now = self.now.jiffies >> STAMP_SHIFT;
        // Negative for a stamp that was made after the clock was read.
        let age = (now as Stamp).wrapping_sub(stamp).cast_signed().max(0);
        let middle = 1 << (STAMP_SHIFT - 1);
        (now.saturating_sub(age as u64) << STAMP_SHIFT) + middle
    }
}

/// A number that is not whole. As few divisions as can be: it is applied twice to each of many thousand sources.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    numerator: u64,
    denominator: u64,
    whole: u64,
    rest: u64,
}

impl Ratio {
    fn new(numerator: u64, denominator: u64) -> Self {
        Self { numerator, denominator, whole: numerator / denominator, rest: numerator % denominator }
    }

    /// `value * numerator / denominator`, rounded down; `u64::MAX` if it is more.
    fn of(self, value: u64) -> u64 {
        let Self { numerator, denominator, whole, rest } = self;
        let narrow = || value.checked_mul(whole)?.checked_add(value.checked_mul(rest)? / denominator);
        narrow().unwrap_or_else(|| {
            let wide = u128::from(value) * u128::from(numerator) / u128::from(denominator);
            u64::try_from(wide).unwrap_or(u64::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_any_size_is_exact() {
        let numbers = [0, 1, 3, 1 << 20, (1 << 37) - 1, 1 << 53, u64::MAX - 1, u64::MAX];
        for value in numbers {
            for (numerator, denominator) in
                numbers.iter().flat_map(|n| numbers[1..].iter().map(move |d| (*n, *d)))
            {
                let wide = u128::from(value) * u128::from(numerator) / u128::from(denominator);
                let expected = u64::try_from(wide).unwrap_or(u64::MAX);
                assert_eq!(
                    Ratio::new(numerator, denominator).of(value),
                    expected,
                    "{value} {numerator} {denominator}"
                );
            }
        }
    }

    const SECOND: u64 = 1_000_000_000;

    /// The jiffies when they began.
    const BEGIN: u64 = 4_294_900_000;

    /// Counters that began a thousand seconds ago, at 250 jiffies a second.
    fn calendar() -> Calendar {
        let epoch = Epoch { since: 80 * SECOND, jiffies: BEGIN, monotonic: 77 * SECOND, seed: [0; 5] };
        let now = Moment { jiffies: BEGIN + 250_000, monotonic: epoch.monotonic + 1_000 * SECOND };
        Calendar::new(epoch, 5_000 * SECOND, now, 6_000 * SECOND)
    }

    fn stamp(jiffies: u64) -> Stamp {
        (jiffies >> STAMP_SHIFT) as Stamp
    }

    #[test]
    fn a_stamp_is_read_to_half_its_unit() {
        let calendar = calendar();
        for seconds in [1, 10, 500, 999] {
            let time = calendar.time(stamp(BEGIN + seconds * 250));
            assert!(time.abs_diff((5_000 + seconds) * SECOND) <= SECOND / 250 * 32, "{seconds}: {time}");
        }
    }

    #[test]
    fn a_time_since_boot_follows_the_wall_clock_of_now() {
        let stored = boot_now() - 100 * SECOND;
        assert!(unix_time(5, stored).abs_diff(unix_now() - 100 * SECOND) < SECOND);
        assert_eq!(boot_time(5, stored), stored);
        // ABI 4 has stored the wall clock.
        let stored = unix_now() - 100 * SECOND;
        assert_eq!(unix_time(4, stored), stored);
        assert!(boot_time(4, stored).abs_diff(boot_now() - 100 * SECOND) < SECOND);
        // No time is of the future, though the clock was set back since.
        assert!(boot_time(4, unix_now() + 7_200 * SECOND) <= boot_now() + SECOND / 1000);
        assert!(unix_time(5, boot_now() + 7_200 * SECOND) <= unix_now() + SECOND / 1000);
    }

    #[test]
    fn no_time_is_outside_the_life_of_the_counters() {
        let calendar = calendar();
        assert_eq!(calendar.time(stamp(BEGIN - 10_000)), 5_000 * SECOND);
        // The stamp of now, and one that was made after the clock was read.
        for jiffies in [calendar.now.jiffies, calendar.now.jiffies + 64] {
            let time = calendar.time(stamp(jiffies));
            assert!((6_000 * SECOND - SECOND / 250 * 32..=6_000 * SECOND).contains(&time), "{time}");
        }
    }
}
