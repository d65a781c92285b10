//! How fast counters move, from what they held at two moments.

use std::collections::VecDeque;
use std::time::Duration;

use portguard_common::totals::Count;

/// How many samples are kept: more than any terminal has columns for.
pub const SAMPLES: usize = 512;

/// Counters that began a moment ago are not judged by that moment: a few packets would look like a flood.
const SHORTEST: Duration = Duration::from_secs(1);

/// Packets and bytes a second; never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    /// Packets a second.
    pub packets: f64,
    /// Bytes a second.
    pub bytes: f64,
}

impl Rate {
    /// So much in a span of time. What comes in no time at all has no rate.
    pub fn of(count: Count, span: Duration) -> Self {
        let seconds = span.as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        Self { packets: count.packets as f64 / seconds, bytes: count.bytes as f64 / seconds }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

/// What has come since a counter held `earlier`. One that has gone back is read as zero growth: the counter of a source
/// that had to make way on one CPU only starts again there.
pub fn growth(earlier: Count, now: Count) -> Count {
    Count {
        packets: now.packets.saturating_sub(earlier.packets),
        bytes: now.bytes.saturating_sub(earlier.bytes),
    }
}

/// The time in which counters that have begun anew, `age` ago, have come to what they hold. The last poll was `elapsed`
/// ago.
pub fn span_since_reset(elapsed: Duration, age: Duration) -> Duration {
    elapsed.min(age.max(SHORTEST))
}

/// The last samples of a rate, in packets a second; `None` where there was nothing to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History(VecDeque<Option<f64>>);

impl History {
    /// Adds a sample, and forgets the oldest one if there are too many.
    pub fn push(&mut self, sample: Option<f64>) {
        if self.0.len() == SAMPLES {
            self.0.pop_back();
        }
        self.0.push_front(sample);
    }

    /// The samples, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        self.0.iter().copied()
    }

    /// The highest of the newest samples.
    pub fn peak(&self, samples: usize) -> f64 {
        self.newest_first().take(samples).flatten().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(packets: u64, bytes: u64) -> Count {
        Count { packets, bytes }
    }

    #[test]
    fn a_rate_is_growth_by_time() {
        let rate = Rate::of(growth(count(100, 6800), count(150, 10_200)), Duration::from_millis(500));
        assert_eq!(rate, Rate { packets: 100.0, bytes: 6800.0 });
    }

    #[test]
    fn nothing_is_negative_or_endless() {
        assert_eq!(growth(count(9, 900), count(3, 4000)), count(0, 3100));
        assert_eq!(Rate::of(count(5, 5), Duration::ZERO), Rate::default());
    }

    #[test]
    fn counters_that_begin_anew_are_judged_by_their_age_but_not_by_a_moment() {
        let seconds = Duration::from_secs;
        assert_eq!(span_since_reset(seconds(60), seconds(5)), seconds(5));
        assert_eq!(span_since_reset(seconds(60), Duration::from_millis(3)), SHORTEST);
        assert_eq!(span_since_reset(seconds(2), seconds(5)), seconds(2));
    }

    #[test]
    fn a_history_is_bounded_and_knows_its_gaps() {
        let mut history = History::default();
        for sample in 0..2 * SAMPLES {
            history.push((sample % 2 == 0).then_some(sample as f64));
        }
        assert_eq!(history.newest_first().count(), SAMPLES);
        assert_eq!(history.newest_first().take(2).collect::<Vec<_>>(), [None, Some(1022.0)]);
        assert_eq!(history.peak(1), 0.0);
        assert_eq!(history.peak(SAMPLES), 1022.0);
    }
}
