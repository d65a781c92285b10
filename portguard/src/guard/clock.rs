//! Turns the stamps of the kernel program into times of day.
//!
//! A stamp is in jiffies, because a program reads jiffies with one load and a clock with a call. The kernel does not
//! have to tell the length of a jiffy. A guard therefore keeps a pair of (jiffies, nanoseconds since boot) from the
//! time at which its counters began, and a reader gets a second pair now. Between the two pairs, times are interpolated
//! linearly.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use portguard_common::epoch::Epoch;
use portguard_common::source_table::{STAMP_SHIFT, Stamp};

use crate::error::{Error, Result};

/// The clock program of an instance.
#[derive(Debug)]
pub struct Clock {
    program: Xdp,
}

/// One moment, on two clocks of the kernel.
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

/// The current time in nanoseconds of Unix time.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

/// The current time in nanoseconds of `CLOCK_BOOTTIME`: since boot, with the time in suspend. This clock is never set.
pub(crate) fn boot_now() -> u64 {
    nanoseconds_of(libc::CLOCK_BOOTTIME)
}

/// Converts a time that a pinned map of this ABI stores to nanoseconds of Unix time. Systemd starts units before the
/// wall clock is right. Since ABI 5, maps therefore store times since boot, and the current wall clock converts them.
pub(super) fn unix_time(abi: u32, stored: u64) -> u64 {
    if is_unix_time(abi) { stored } else { stored.min(boot_now()).saturating_add(unix_time_of_boot()) }
}

/// Converts a time that a pinned map of this ABI stores to nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn boot_time(abi: u32, stored: u64) -> u64 {
    if is_unix_time(abi) { stored.min(unix_now()).saturating_sub(unix_time_of_boot()) } else { stored }
}

/// Converts a time in the future from nanoseconds of `CLOCK_BOOTTIME` to nanoseconds of Unix time.
pub(super) fn unix_time_to_come(boot: u64) -> u64 {
    boot.saturating_add(unix_time_of_boot())
}

/// When this host booted, by the current wall clock. It is rounded to a millisecond, so that the same stored time gives
/// the same result in each call.
fn unix_time_of_boot() -> u64 {
    const MILLISECOND: u64 = 1_000_000;
    let exact = unix_now().saturating_sub(boot_now());
    (exact + MILLISECOND / 2) / MILLISECOND * MILLISECOND
}

/// Whether maps of this ABI store Unix time.
fn is_unix_time(abi: u32) -> bool {
    abi < 5
}

fn nanoseconds_of(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable. The call cannot fail for the clocks that portguard reads.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The offset between `CLOCK_MONOTONIC` and Unix time.
#[derive(Debug, Clone, Copy)]
pub struct Uptime {
    behind: u64,
}

impl Uptime {
    /// The offset now.
    pub fn now() -> Self {
        Self { behind: unix_now().saturating_sub(nanoseconds_of(libc::CLOCK_MONOTONIC)) }
    }

    /// Converts nanoseconds of `CLOCK_MONOTONIC` to nanoseconds of Unix time.
    pub fn unix_time(self, monotonic: u64) -> u64 {
        self.behind.saturating_add(monotonic)
    }
}

/// Converts stamps of one set of counters, up to the moment of a reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    /// When the counters began, in nanoseconds of Unix time.
    since: u64,
    now: Moment,
    unix_now: u64,
    nanoseconds_per_jiffy: Ratio,
}

impl Calendar {
    /// A calendar from the time at which the counters began to `now`. In nanoseconds of Unix time, these are `since` and
    /// `unix_now`.
    pub(super) fn new(epoch: Epoch, since: u64, now: Moment, unix_now: u64) -> Self {
        let nanoseconds = now.monotonic.saturating_sub(epoch.monotonic);
        let jiffies = now.jiffies.saturating_sub(epoch.jiffies).max(1);
        let nanoseconds_per_jiffy = Ratio::new(nanoseconds, jiffies);
        Self { since: since.min(unix_now), now, unix_now, nanoseconds_per_jiffy }
    }

    /// The time of a stamp, in nanoseconds of Unix time. It is never before the counters began, and never after now.
    pub(super) fn time(&self, stamp: Stamp) -> u64 {
        let age = self.now.jiffies.saturating_sub(self.jiffies(stamp));
        let age = self.nanoseconds_per_jiffy.of(age).min(self.nanoseconds_per_jiffy.numerator);
        self.unix_now.saturating_sub(age).max(self.since)
    }

    /// The middle of the jiffies that a stamp stands for. Stamps wrap; the result is within the 2^37 jiffies before now.
    fn jiffies(&self, stamp: Stamp) -> u64 {
        let now = self.now.jiffies >> STAMP_SHIFT;
        // Negative if the stamp was made after the clock was read.
        let age = (now as Stamp).wrapping_sub(stamp).cast_signed().max(0);
        let middle = 1 << (STAMP_SHIFT - 1);
        (now.saturating_sub(age as u64) << STAMP_SHIFT) + middle
    }
}

/// A fraction. It saves divisions, because it is applied twice to each of many thousand sources.
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

    /// `value * numerator / denominator`, rounded down; `u64::MAX` if the result is larger.
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

    /// The jiffies when the counters began.
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
        // ABI 4 stores Unix time.
        let stored = unix_now() - 100 * SECOND;
        assert_eq!(unix_time(4, stored), stored);
        assert!(boot_time(4, stored).abs_diff(boot_now() - 100 * SECOND) < SECOND);
        // No time is in the future, although the clock was set back in the meantime.
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
