//! The conditions that the command line names.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

use crate::allowlist::{Conditions, InterfacePattern, read_duration, read_interface, read_rate, read_until};
use crate::error::{Error, Kind, Result};

/// Conditions of the new entries.
#[derive(Debug, clap::Args)]
pub struct ConditionOptions {
    /// Allow for this long from now on: a number with s, m, h, d or w, such as 2h; the file gets the time at which it ends
    #[arg(long = "for", value_name = "DURATION", value_parser = read_duration, conflicts_with = "until")]
    pub lasting: Option<Duration>,
    /// Allow until then: a time with its offset, such as 2026-12-01T18:00:00Z, or the end of a day in UTC, such as 2026-12-01
    #[arg(long, value_name = "TIME", value_parser = later)]
    pub until: Option<Timestamp>,
    /// Allow on these guarded interfaces only: names or patterns such as eth*, separated by commas
    #[arg(long, value_name = "I", value_delimiter = ',', value_parser = read_interface)]
    pub interfaces: Vec<InterfacePattern>,
    /// Which calls to permit over UDP, whatever the list permits
    #[arg(long, value_name = "CALLS", value_parser = udp_calls())]
    pub udp: Option<UdpCalls>,
    /// How many packets a second each new entry lets pass over UDP, such as 100/s
    #[arg(long, value_name = "N/s", value_parser = read_rate)]
    pub rate: Option<NonZeroU32>,
}

impl ConditionOptions {
    /// The conditions of each new entry. What lasts, lasts from now on.
    pub(super) fn conditions(&self) -> Result<Conditions> {
        let Self { lasting, until, interfaces, udp, rate } = self;
        let until = match lasting {
            Some(lasting) => Some(end_of(*lasting)?),
            None => *until,
        };
        let mut named: Vec<InterfacePattern> = Vec::new();
        for pattern in interfaces {
            if !named.contains(pattern) {
                named.push(pattern.clone());
            }
        }
        let interfaces = (!named.is_empty()).then(|| named.into());
        Ok(Conditions { interfaces, until, udp: *udp, rate: *rate })
    }
}

/// The end of what lasts from now on, in whole seconds.
fn end_of(lasting: Duration) -> Result<Timestamp> {
    let seconds = i64::try_from(lasting.as_secs()).ok();
    let end = seconds.and_then(|seconds| Timestamp::now().as_second().checked_add(seconds));
    let end = end.and_then(|end| Timestamp::from_second(end).ok());
    // A time of a list, which has a range.
    end.filter(|end| read_until(&end.to_string()).is_ok()).ok_or_else(|| {
        Error::new(Kind::Usage, "--for is too long").remedy("Leave it out for entries without an end.")
    })
}

/// Reads a time that has not passed.
fn later(text: &str) -> Result<Timestamp, String> {
    let time = read_until(text).map_err(|fault| fault.to_string())?;
    match time > Timestamp::now() {
        true => Ok(time),
        false => Err(format!("{time} has passed: the entries would allow nobody")),
    }
}

fn udp_calls() -> impl TypedValueParser<Value = UdpCalls> {
    let values = UdpCalls::ALL.map(|calls| {
        PossibleValue::new(calls.key()).help(match calls {
            UdpCalls::All => "All",
            UdpCalls::Lookups => "Those whose reply is hardly larger than the call: what clients need",
            UdpCalls::None => "None",
        })
    });
    PossibleValuesParser::new(values).try_map(|key| UdpCalls::from_key(&key).ok_or("no such calls"))
}
