//! Options that several verbs have.

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;

use crate::allowlist::read_moment;
use crate::guard::{ModeChoice, Named, Trial, calls};

/// What `attach` and `run` name of the order of a guard.
#[derive(Debug, Args)]
pub struct GuardOptions {
    /// How the kernel runs the guard [default: auto]
    #[arg(long, value_enum)]
    pub mode: Option<ModeChoice>,
    /// Drop nothing; count the packets that would be dropped
    #[arg(long)]
    pub audit: bool,
    /// Drop packets that the list does not allow: the default
    #[arg(long, conflicts_with = "audit")]
    pub enforce: bool,
    /// Remember N denied sources, on each CPU and of each address family [default: 16384, fewer on hosts with
    /// many CPUs or little memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    pub sources: Option<u32>,
}

impl From<&GuardOptions> for Named {
    fn from(&GuardOptions { mode, audit, enforce, sources }: &GuardOptions) -> Self {
        Self { mode, audit: (audit || enforce).then_some(audit), sources, log: None }
    }
}

/// What `attach` and `reload` name of a change on trial.
#[derive(Debug, Args)]
pub struct TrialOptions {
    /// Restore the previous state after SECONDS (60 if no value is given), unless the change is confirmed: on the
    /// terminal, or by `portguard confirm`
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub confirm: Option<u64>,
}

impl TrialOptions {
    /// The trial of a change that is made now.
    pub(super) fn trial(&self) -> Option<Trial> {
        self.confirm.map(Trial::of_seconds)
    }
}

impl ValueEnum for ModeChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Auto => {
                "Native; generic if the driver refuses, or if native mode would exclude later ports \
                 (bonds); attach reports it"
            }
            Self::Native => "In the driver, before the kernel allocates anything",
            Self::Generic => "In the network stack: without help from the driver, slower",
            Self::Offload => {
                "On the card: refused, because the program would have to be loaded for that card alone"
            }
        };
        Some(PossibleValue::new(self.key()).help(help))
    }
}

/// Reads a protocol by its key.
pub(super) fn protocol() -> impl TypedValueParser<Value = Protocol> {
    let values = Protocol::ALL.map(|protocol| {
        PossibleValue::new(protocol.key()).help(match protocol {
            Protocol::Udp => "A datagram with a call",
            Protocol::Tcp => "The first segment of a connection",
        })
    });
    PossibleValuesParser::new(values).try_map(|key| Protocol::from_key(&key).ok_or("no such protocol"))
}

/// A call over UDP.
pub(super) fn call() -> impl TypedValueParser<Value = Procedure> {
    let values = Procedure::ALL.map(|call| PossibleValue::new(call.key()).help(calls::name(call)));
    PossibleValuesParser::new(values).try_map(|key| Procedure::from_key(&key).ok_or("no such call"))
}

/// A moment: RFC 3339, or a date, which stands for its last second.
pub(super) fn time() -> impl TypedValueParser<Value = Timestamp> {
    StringValueParser::new().try_map(|text| read_moment(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::XdpMode;

    #[test]
    fn modes_are_typed_as_they_are_shown() {
        for mode in XdpMode::ALL {
            assert!(ModeChoice::ALL.iter().any(|choice| choice.key() == mode.key()), "{mode:?}");
        }
    }
}
