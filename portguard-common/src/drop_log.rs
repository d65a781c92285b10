//! The drop log: a sample of the denied packets. Its rate is limited to the one that the loader has set, also in a flood.
//!
//! Each CPU has its own [`TokenBucket`], and no other CPU writes it. If a packet finds no token, or finds the ring full,
//! [`crate::totals::Totals::not_logged`] counts it.

use crate::layout::Shared;

/// The token bucket of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct TokenBucket {
    /// When the bucket would be full again, in nanoseconds of `CLOCK_MONOTONIC`.
    full_at: u64,
    reserved: [u64; 7],
}

// SAFETY: integers that fill the 64 bytes (asserted below); zeroes are a full bucket.
unsafe impl Shared for TokenBucket {}

const _: () = assert!(size_of::<TokenBucket>() == 64);

/// How fast a token bucket fills, and how much it holds. Both are constants of the loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// The time in which a bucket gains one token, in nanoseconds. Zero switches the log off.
    pub interval: u64,
    /// The time in which an empty bucket becomes full, in nanoseconds.
    pub depth: u64,
}

// SAFETY: two integers of the same size; zeroes are the rate of no log.
unsafe impl Shared for Rate {}

impl Rate {
    /// The rate with which the program logs nothing.
    pub const OFF: Self = Self { interval: 0, depth: 0 };

    /// The rate of each of `cpus` CPUs with which all of them together log `lines` entries a second, and as many at
    /// once. If there are more CPUs than lines, each CPU may log one entry at once.
    pub fn per_cpu(lines: u32, cpus: u32) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let interval = SECOND * u64::from(cpus.max(1)) / u64::from(lines.max(1));
        Self { interval, depth: interval.max(SECOND) }
    }
}

impl TokenBucket {
    /// Takes a token, if there is one at `now`, in nanoseconds of `CLOCK_MONOTONIC`. Returns whether there was one.
    #[inline(always)]
    pub fn take(&mut self, now: u64, rate: Rate) -> bool {
        let full_at = if self.full_at < now { now } else { self.full_at };
        let full_at = full_at + rate.interval;
        if full_at > now + rate.depth {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

/// A denied packet in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// When the program logged it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Its source: an IPv6 address ([`crate::address::V6`]), or an IPv4 address ([`crate::address::V4`]) and a zero.
    pub source: [u64; 2],
    /// The index of the interface that received it.
    pub ifindex: u32,
    /// Its length in bytes, from the IP header on.
    pub bytes: u32,
    /// Its source port, in network byte order.
    pub port_be: [u8; 2],
    /// 4 or 6.
    pub ip_version: u8,
    /// The index of its [`crate::rpc::Request`].
    pub request: u8,
    /// 1 if the guard dropped the packet, 0 if it passed in audit mode.
    pub dropped: u8,
    /// The number of the [`crate::reason::Denial`].
    pub reason: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

// SAFETY: integers and byte arrays, without padding (asserted below); zeroes are a value.
unsafe impl Shared for Event {}

const _: () = assert!(size_of::<Event>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    /// A token every 500 ns, and up to three at once.
    const RATE: Rate = Rate { interval: 500, depth: 1500 };

    fn taken(times: impl IntoIterator<Item = u64>) -> usize {
        let mut bucket = TokenBucket::default();
        times.into_iter().filter(|&now| bucket.take(now, RATE)).count()
    }

    #[test]
    fn a_full_bucket_gives_what_it_holds_and_then_what_comes_in() {
        assert_eq!(taken([10_000; 100]), 3);
        assert_eq!(taken(10_000..20_000), 3 + 10_000 / 500 - 1);
    }

    #[test]
    fn it_never_holds_more_than_its_depth() {
        let (early, late) = ([10_000; 100], [1_000_000; 100]);
        assert_eq!(taken(early.into_iter().chain(late)), 6);
    }

    #[test]
    fn all_cpus_together_log_no_more_than_they_may() {
        for (lines, cpus) in [(10, 1), (10, 2), (10, 64), (1, 2), (1_000_000, 2)] {
            let rate = Rate::per_cpu(lines, cpus);
            assert!(rate.interval > 0 && rate.interval <= rate.depth, "{rate:?}");
            let at_once = u64::from(cpus) * (rate.depth / rate.interval);
            assert!(at_once <= u64::from(lines.max(cpus)), "{lines} lines, {cpus} CPUs: {at_once} at once");
            let a_second = u64::from(cpus) * 1_000_000_000 / rate.interval;
            assert_eq!(a_second, u64::from(lines), "{lines} lines, {cpus} CPUs");
        }
    }

    #[test]
    fn one_packet_at_a_time_is_never_refused() {
        assert_eq!(taken((1..100).map(|number| number * 500)), 99);
    }
}
