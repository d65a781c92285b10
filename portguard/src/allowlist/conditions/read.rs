//! Reads the conditions of an entry from the texts of a list and of the command line.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use portguard_common::conditions::HIGHEST_RATE;

use super::InterfacePattern;
use crate::allowlist::prefix::Fault;
use crate::allowlist::text::cut;
use crate::interface::{name_bytes, name_text};
use crate::printable::{is_misleading, printable};

/// The most interfaces that an entry names.
pub(in crate::allowlist) const MAX_INTERFACES: usize = 64;

/// The longest name that an interface can have, in bytes: an alternative one (`ALTIFNAMSIZ`, without the NUL).
const MAX_NAME: usize = 127;
/// The years that `until` may be in: its nanoseconds of Unix time fit into 64 bits.
const YEARS: std::ops::Range<i16> = 1970..2500;
/// The most bytes of a text that a message repeats.
const MAX_TEXT: usize = 64;

const A_TIME: &str =
    "write a time with its offset from UTC, like 2026-12-01T18:00:00Z, or a day, like 2026-12-01";

fn fault(message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault { message: message.into(), help: help.into() }
}

fn shown(text: &str) -> String {
    printable(&cut(text, MAX_TEXT))
}

/// Reads the name of an interface, or a pattern of names.
pub(crate) fn read_interface(text: &str) -> Result<InterfacePattern, Fault> {
    const HELP: &str = "write a name as `ip link` shows it, like eth1, or a pattern, like eth*";
    if text.is_empty() {
        return Err(fault("the name of an interface is empty", HELP));
    }
    let it = shown(text);
    if name_bytes(text).len() > MAX_NAME {
        let help = format!("a name has at most 15 bytes, and an alternative name {MAX_NAME}");
        return Err(fault(format!("`{it}` is too long for the name of an interface"), help));
    }
    let is_no_name = format!("`{it}` is not the name of an interface");
    if text.contains(char::is_whitespace) {
        return Err(fault(is_no_name, "names have no blanks; write several as a list, like [eth1, bond0]"));
    }
    if let Some((device, _)) = text.split_once(':') {
        let help = match read_interface(device) {
            Ok(device) => format!("names have no colons; did you mean {}?", device.as_str()),
            Err(_) => HELP.to_owned(),
        };
        return Err(fault(is_no_name, help));
    }
    if matches!(text, "." | "..") || text.contains('/') {
        return Err(fault(is_no_name, HELP));
    }
    if text.contains(is_misleading) {
        return Err(fault(is_no_name, "write its bytes as `portguard status` shows them, like \\x1b"));
    }
    // Each name has one text, with which it is compared.
    Ok(InterfacePattern(name_text(&name_bytes(text)).into()))
}

/// Reads how many packets may pass in a second.
pub(crate) fn read_rate(text: &str) -> Result<NonZeroU32, Fault> {
    let help = format!("write a number from 1 to {HIGHEST_RATE} and `/s`, like 100/s");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let it = shown(text);
    let Some(number) = text.strip_suffix("/s").filter(|number| is_number(number)) else {
        let help = if is_number(text) { format!("did you mean {it}/s?") } else { help };
        return Err(fault(format!("`{it}` is not a number of packets in a second"), help));
    };
    if number.bytes().all(|byte| byte == b'0') {
        return Err(fault(format!("`{it}` would let nothing pass over UDP"), "write `udp: none` for that"));
    }
    if number.starts_with('0') {
        return Err(fault(format!("`{it}` has leading zeros"), help));
    }
    let rate = number.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= HIGHEST_RATE);
    rate.ok_or_else(|| fault(format!("the rate `{it}` is out of range"), help))
}

/// Reads a duration: a number and a unit.
pub(crate) fn read_duration(text: &str) -> Result<Duration, Fault> {
    const HELP: &str = "write a number and a unit, like 90s, 30m, 2h, 7d or 1w";
    let is_none = || fault(format!("`{}` is not a duration", shown(text)), HELP);
    let at = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(is_none)?;
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(is_none()),
    };
    let number: u64 = if number.is_empty() { Err(is_none())? } else { number.parse().unwrap_or(u64::MAX) };
    match number.checked_mul(unit) {
        Some(0) => Err(fault(format!("`{}` is no time at all", shown(text)), HELP)),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => {
            Err(fault(format!("`{}` is too long", shown(text)), "leave it out for entries without an end"))
        }
    }
}

/// Reads the time until which an entry allows: a time with an offset from UTC (RFC 3339), or a day, at whose end in UTC the entry
/// ends.
pub(crate) fn read_until(text: &str) -> Result<Timestamp, Fault> {
    read_time(text, Of::End)
}

/// Reads a moment: a time with an offset from UTC, or a day, which stands for its last second in UTC.
pub(crate) fn read_moment(text: &str) -> Result<Timestamp, Fault> {
    let is_day = matches!(date(text), Some((_, "")));
    let time = read_time(text, Of::Moment)?;
    Ok(if is_day { time - SignedDuration::from_secs(1) } else { time })
}

/// What a time is read for; the help of a fault depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The end of an entry.
    End,
    /// A moment that somebody asks about.
    Moment,
}

fn read_time(text: &str, of: Of) -> Result<Timestamp, Fault> {
    let it = shown(text);
    let Some((date, rest)) = date(text) else { return Err(no_time(text, of)) };
    let date = date.ok_or_else(|| fault(format!("`{it}`: there is no such day"), A_TIME))?;
    let time = if rest.is_empty() {
        let midnight = date.tomorrow().ok().map(|day| day.to_datetime(jiff::civil::Time::midnight()));
        midnight.and_then(|midnight| Offset::UTC.to_timestamp(midnight).ok())
    } else {
        let rest = rest.strip_prefix(['T', 't', ' ']).ok_or_else(|| no_time(text, of))?;
        let Some((time, nanoseconds, offset)) = time_of_day(rest) else {
            return Err(match digits(rest, 2).and_then(|(_, rest)| digits(rest.strip_prefix(':')?, 2)) {
                Some((_, rest)) if !rest.starts_with(':') => {
                    let at = text.len() - rest.len();
                    let offset = if rest.is_empty() { "Z" } else { rest };
                    let meant = shown(&format!("{}:00{offset}", &text[..at]));
                    fault(format!("`{it}` has no seconds"), format!("did you mean {meant}?"))
                }
                _ => no_time(text, of),
            });
        };
        let time = valid_time(date, time, nanoseconds)
            .map_err(|help| fault(format!("`{it}`: there is no such time"), help))?;
        if offset.is_empty() {
            return Err(fault(
                format!("`{it}` has no offset from UTC"),
                format!("add one: {it}Z is in UTC, and {it}+01:00 an hour earlier"),
            ));
        }
        let offset = self::offset(offset).ok_or_else(|| {
            fault(
                format!("`{it}` has no valid offset from UTC"),
                "end it with `Z`, or with hours and minutes, like +01:00",
            )
        })?;
        offset.to_timestamp(time).ok()
    };
    let year = |time: &Timestamp| Offset::UTC.to_datetime(*time).year();
    time.filter(|time| YEARS.contains(&year(time))).ok_or_else(|| {
        let more = if of == Of::End { "; an entry without `until` does not end" } else { "" };
        let help = format!("write a time from {} to {}{more}", YEARS.start, YEARS.end - 1);
        fault(format!("`{it}` is out of range"), help)
    })
}

/// The fault of a text that does not look like a time.
fn no_time(text: &str, of: Of) -> Fault {
    let help = match text.parse::<i64>() {
        // Seconds of Unix time, from 1973 on.
        Ok(unix @ 100_000_000..) => {
            Timestamp::from_second(unix).map(|time| format!("did you mean {time}?")).ok()
        }
        _ if of == Of::End && read_duration(text).is_ok() => Some(format!(
            "a list has the time at which the entry ends: `portguard allow PREFIX --for {text}` writes it"
        )),
        _ => None,
    };
    fault(format!("`{}` is not a time", shown(text)), help.unwrap_or_else(|| A_TIME.to_owned()))
}

/// A number of that many digits at the start of a text, and the rest.
fn digits(text: &str, count: usize) -> Option<(u16, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

/// A date at the start of a text, and the rest; the inner `None` if there is no such day.
fn date(text: &str) -> Option<(Option<Date>, &str)> {
    let (year, rest) = digits(text, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2)?;
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    Some((date.ok(), rest))
}

/// Hours, minutes, seconds and nanoseconds at the start of a text, and the rest. The numbers may be too large.
fn time_of_day(text: &str) -> Option<([u16; 3], i32, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let Some(fraction) = rest.strip_prefix('.') else { return Some(([hour, minute, second], 0, rest)) };
    let end = fraction.find(|it: char| !it.is_ascii_digit()).unwrap_or(fraction.len());
    let (fraction, rest) = fraction.split_at(end);
    let nanoseconds = format!("{fraction:0<9.9}").parse().ok().filter(|_| end > 0)?;
    Some(([hour, minute, second], nanoseconds, rest))
}

/// The date with the time; or what to write instead.
fn valid_time(
    date: Date,
    [hour, minute, second]: [u16; 3],
    nanoseconds: i32,
) -> Result<DateTime, &'static str> {
    match (hour, minute, second) {
        (0..=23, 0..=59, 60) => Err("leap seconds are not counted: write second 59, or the next minute"),
        (24, 0, 0) => Err("the end of a day is 00:00:00 of the next one"),
        (0..=23, 0..=59, 0..=59) => {
            let [hour, minute, second] =
                [hour, minute, second].map(|it| i8::try_from(it).unwrap_or_default());
            Ok(date.at(hour, minute, second, nanoseconds))
        }
        _ => Err("hours go to 23, minutes and seconds to 59"),
    }
}

/// An offset from UTC: `Z` or `+01:00`.
fn offset(text: &str) -> Option<Offset> {
    if matches!(text, "Z" | "z") {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, rest) = digits(rest, 2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2)?;
    let is_valid = rest.is_empty() && hours < 24 && minutes < 60;
    let seconds = sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60);
    Offset::from_seconds(seconds).ok().filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is wrong with a text.
    fn wrong<T: std::fmt::Debug>(read: Result<T, Fault>) -> String {
        read.expect_err("an error").to_string()
    }

    /// An entry that ends with a day allows at each moment of it.
    #[test]
    fn a_moment_that_is_a_day_is_within_the_day() {
        assert_eq!(read_moment("2026-12-01").unwrap().to_string(), "2026-12-01T23:59:59Z");
        assert!(read_moment("2026-12-01").unwrap() < read_until("2026-12-01").unwrap());
        assert_eq!(read_moment("2026-12-01T18:00:00+02:00").unwrap().to_string(), "2026-12-01T16:00:00Z");
        for text in ["2h", "1960-01-01", "noon"] {
            let help = read_moment(text).unwrap_err().help;
            assert!(help.starts_with("write a time") && !help.contains("entry"), "{text}: {help}");
        }
    }

    #[test]
    fn times_are_read_with_their_offsets() {
        for (text, time) in [
            ("2026-12-01T18:00:00Z", "2026-12-01T18:00:00Z"),
            ("2026-12-01t18:00:00z", "2026-12-01T18:00:00Z"),
            ("2026-12-01 18:00:00Z", "2026-12-01T18:00:00Z"),
            ("2026-12-01T18:00:00+02:00", "2026-12-01T16:00:00Z"),
            ("2026-12-01T18:00:00-09:30", "2026-12-02T03:30:00Z"),
            ("2026-12-01T18:00:00.25Z", "2026-12-01T18:00:00.25Z"),
            ("2026-12-01T18:00:00.1234567899Z", "2026-12-01T18:00:00.123456789Z"),
            // A day ends with its last moment in UTC.
            ("2026-12-01", "2026-12-02T00:00:00Z"),
            ("2024-02-28", "2024-02-29T00:00:00Z"),
            ("1970-01-01", "1970-01-02T00:00:00Z"),
            ("2499-12-30", "2499-12-31T00:00:00Z"),
        ] {
            assert_eq!(read_until(text).map_err(|it| it.to_string()), Ok(time.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn other_times_are_errors() {
        for (text, told) in [
            (
                "2026-12-01T18:00:00",
                "`2026-12-01T18:00:00` has no offset from UTC: add one: 2026-12-01T18:00:00Z is in UTC",
            ),
            ("2026-12-01T18:00Z", "`2026-12-01T18:00Z` has no seconds: did you mean 2026-12-01T18:00:00Z?"),
            ("2026-12-01T18:00", "`2026-12-01T18:00` has no seconds: did you mean 2026-12-01T18:00:00Z?"),
            ("2026-12-31T23:59:60Z", "there is no such time: leap seconds are not counted"),
            ("2026-12-01T24:00:00Z", "there is no such time: the end of a day is 00:00:00"),
            ("2026-12-01T25:00:00Z", "there is no such time: hours go to 23"),
            ("2026-12-01T18:60:00Z", "there is no such time"),
            ("2026-02-30", "`2026-02-30`: there is no such day"),
            ("2026-13-01T18:00:00Z", "there is no such day"),
            ("2026-12-01T18:00:00+0200", "has no valid offset from UTC: end it with `Z`"),
            ("2026-12-01T18:00:00+24:00", "has no valid offset"),
            ("2026-12-01T18:00:00 UTC", "has no valid offset"),
            ("2026-12-01T18:00:00Z[UTC]", "has no valid offset"),
            ("1796148000", "`1796148000` is not a time: did you mean 2026-12-01T18:00:00Z?"),
            ("2h", "`portguard allow PREFIX --for 2h` writes it"),
            (
                "tomorrow",
                "`tomorrow` is not a time: write a time with its offset from UTC, like 2026-12-01T18:00:00Z",
            ),
            ("01.12.2026", "is not a time"),
            ("2026-12-01T18:00:00.Z", "is not a time"),
            ("2026-12-01X", "is not a time"),
            ("", "`` is not a time"),
            ("9999-12-31", "`9999-12-31` is out of range: write a time from 1970 to 2499"),
            ("1969-12-31T23:59:59Z", "is out of range"),
            ("2499-12-31", "is out of range"),
        ] {
            let message = wrong(read_until(text));
            assert!(message.contains(told), "{text}: {message}");
        }
    }

    #[test]
    fn rates_are_packets_in_a_second() {
        assert_eq!(["1/s", "100/s", "1000000/s"].map(|it| read_rate(it).unwrap().get()), [1, 100, 1_000_000]);
        for (text, told) in [
            ("100", "`100` is not a number of packets in a second: did you mean 100/s?"),
            ("100/m", "write a number from 1 to 1000000 and `/s`, like 100/s"),
            ("0/s", "`0/s` would let nothing pass over UDP: write `udp: none` for that"),
            ("1000001/s", "the rate `1000001/s` is out of range: write a number from 1 to 1000000"),
            ("99999999999999999999/s", "is out of range"),
            ("010/s", "has leading zeros"),
            ("+1/s", "is not a number"),
            ("-1/s", "is not a number"),
            ("1.5/s", "is not a number"),
            ("1 /s", "is not a number"),
            ("/s", "is not a number"),
            ("", "is not a number"),
        ] {
            let message = wrong(read_rate(text));
            assert!(message.contains(told), "{text}: {message}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        let seconds = ["90s", "30m", "2h", "7d", "1w"].map(|it| read_duration(it).unwrap().as_secs());
        assert_eq!(seconds, [90, 1800, 7200, 604_800, 604_800]);
        for text in
            ["", "2", "h", "2 h", "2H", "2hours", "-2h", "1.5h", "0s", "99999999999999999999w", "1h30m"]
        {
            let message = wrong(read_duration(text));
            assert!(message.contains(": "), "{text}: {message}");
        }
    }

    #[test]
    fn names_are_those_that_linux_takes() {
        let longest = "a".repeat(127);
        for name in ["eth0", "eth*", "*", "größe", "a@b", "...", "-", &longest, &r"\xff".repeat(127)] {
            assert_eq!(read_interface(name).unwrap().as_str(), name);
        }
        for (name, told) in [
            ("", "the name of an interface is empty"),
            (&*"a".repeat(128), "is too long for the name of an interface"),
            ("eth0 eth1", "names have no blanks; write several as a list, like [eth1, bond0]"),
            ("eth0, eth1", "names have no blanks"),
            ("eth0:1", "`eth0:1` is not the name of an interface: names have no colons; did you mean eth0?"),
            (":", "is not the name"),
            (".", "is not the name"),
            ("..", "is not the name"),
            ("a/b", "is not the name"),
            ("a\u{1b}b", "write its bytes as `portguard status` shows them"),
            ("a\u{202e}b", "write its bytes"),
        ] {
            let message = wrong(read_interface(name));
            assert!(message.contains(told), "{name}: {message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in prop_oneof!["\\PC{0,30}", "[0-9TZ:+. -]{0,30}", "2026-12-01T[0-9:.Zü+-]{0,12}"]) {
            let _ = (read_until(&text), read_rate(&text), read_duration(&text), read_interface(&text));
        }

        #[test]
        fn each_time_is_read_as_it_is_shown(seconds in 0..16_700_000_000_i64) {
            let time = Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(read_until(&time.to_string()).ok(), Some(time));
        }
    }
}
