//! Times, as every format shows them: UTC, RFC 3339.

use jiff::Timestamp;

/// `2026-11-23T05:12:31Z`, of nanoseconds of Unix time.
pub(crate) fn seconds(unix: u64) -> String {
    timestamp(unix).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-23T05:12:31.123456Z`, of nanoseconds of Unix time.
pub(crate) fn microseconds(unix: u64) -> String {
    timestamp(unix).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// `05:12:31 UTC`, of nanoseconds of Unix time.
pub(crate) fn time_of_day(unix: u64) -> String {
    timestamp(unix).strftime("%H:%M:%S UTC").to_string()
}

fn timestamp(unix: u64) -> Timestamp {
    Timestamp::from_nanosecond(unix.into()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_cut_off() {
        let time = 1_795_410_751_123_456_789;
        assert_eq!(seconds(time), "2026-11-23T05:12:31Z");
        assert_eq!(microseconds(time), "2026-11-23T05:12:31.123456Z");
        assert_eq!(time_of_day(time), "05:12:31 UTC");
        assert_eq!(seconds(0), "1970-01-01T00:00:00Z");
    }
}
