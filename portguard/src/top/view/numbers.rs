//! Numbers and times in few characters.

use std::time::Duration;

use crate::top::rate::Rate;

/// Three digits, and the unit of thousands: `999`, `12.3 k`, `1.23 M`.
pub(super) fn short(number: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut number, mut unit) = (number, 0);
    // What would be rounded up to a thousand is in the next unit.
    while number >= 999.5 && unit + 1 < UNITS.len() {
        number /= 1000.0;
        unit += 1;
    }
    let digits = match number {
        _ if unit == 0 && number.fract() == 0.0 => format!("{number:.0}"),
        ..9.995 => format!("{number:.2}"),
        ..99.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    };
    if unit == 0 { digits } else { format!("{digits} {}", UNITS[unit]) }
}

/// A number in full, unless it has more than nine digits.
pub(super) fn whole(number: u64) -> String {
    if number < 1_000_000_000 { number.to_string() } else { short(number as f64) }
}

/// Bytes: `1.23 kB`.
pub(super) fn bytes(number: f64) -> String {
    let text = short(number);
    if text.ends_with(|last: char| last.is_ascii_digit()) { format!("{text} B") } else { format!("{text}B") }
}

/// Packets a second; a dash where it is not known yet.
pub(super) fn packet_rate(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| per_second(rate.packets))
}

/// Bytes a second; a dash where it is not known yet.
pub(super) fn byte_rate(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", bytes(rate.bytes)))
}

/// So many a second.
pub(super) fn per_second(number: f64) -> String {
    format!("{}/s", short(number))
}

/// A part of a whole: `7.3%`.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    // Not rounded up: what is not all of it is no 100%.
    let permille = u128::from(part.min(whole)) * 1000 / u128::from(whole);
    if permille == 0 && part > 0 {
        "<0.1%".to_owned()
    } else {
        format!("{}.{}%", permille / 10, permille % 10)
    }
}

/// A year in seconds.
const YEAR: u64 = 31_557_600;

/// How long ago something was, in one unit: `59 s`, `2 m`, `5 h`, `12 d`, `3 y`.
pub(super) fn age(now: u64, then: u64) -> String {
    let seconds = Duration::from_nanos(now.saturating_sub(then)).as_secs();
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        86_400..86_400_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (7.0, "7"),
            (9.999, "10.0"),
            (42.5, "42.5"),
            (999.0, "999"),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (999_600.0, "1.00 M"),
            (1e21, "1000 E"),
        ] {
            assert_eq!(short(number), text);
        }
        assert_eq!(bytes(821.0), "821 B");
        assert_eq!(bytes(16_216.0), "16.2 kB");
        assert_eq!(whole(999_999_999), "999999999");
        assert_eq!(whole(1_234_567_890), "1.23 G");
    }

    #[test]
    fn a_share_is_not_all_or_nothing_unless_it_is() {
        assert_eq!(share(1, 1_000_000), "<0.1%");
        assert_eq!(share(0, 7), "0.0%");
        assert_eq!(share(999_999, 1_000_000), "99.9%");
        assert_eq!(share(1, 1), "100.0%");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0%");
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn ages_have_one_unit_and_are_never_in_the_future() {
        const SECOND: u64 = 1_000_000_000;
        for (seconds, text) in [
            (0, "now"),
            (59, "59 s"),
            (60, "1 m"),
            (3599, "59 m"),
            (7200, "2 h"),
            (200_000, "2 d"),
            (86_399_999, "999 d"),
            (86_400_000, "2 y"),
        ] {
            assert_eq!(age(1_000_000_000 * SECOND, (1_000_000_000 - seconds) * SECOND), text);
        }
        assert_eq!(age(0, SECOND), "now");
    }
}
