//! Options that several verbs have.

use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;

use crate::allowlist::read_moment;
use crate::error::{Error, Kind, Result};
use crate::guard::{HookChoice, ModeChoice, Named, Trial, calls};

/// What `attach` and `run` name of the order of a guard.
#[derive(Debug, Args)]
pub struct GuardOptions {
    /// Where the kernel runs the guard [default: auto]
    #[arg(long, value_enum)]
    pub hook: Option<HookName>,
    /// How XDP runs it [default: auto]
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

impl GuardOptions {
    /// Which hook and mode it names.
    ///
    /// # Errors
    /// There is no such mode at that hook.
    pub fn hook(&self) -> Result<Option<HookChoice>> {
        let &Self { hook, mode, .. } = self;
        if hook.is_none() && mode.is_none() {
            return Ok(None);
        }
        let choice = HookChoice::of_keys(hook.map(HookName::key), mode.map(ModeChoice::key));
        choice.map(Some).ok_or_else(|| {
            let hook = hook.map_or("auto", HookName::key);
            Error::new(Kind::Usage, format!("--hook {hook} has no --mode"))
                .because("native and generic are the modes of XDP")
                .remedy("Leave one of the two out.")
        })
    }

    /// What it names of the order of a guard.
    ///
    /// # Errors
    /// See [`Self::hook`].
    pub fn named(&self) -> Result<Named> {
        let &Self { audit, enforce, sources, .. } = self;
        Ok(Named { hook: self.hook()?, audit: (audit || enforce).then_some(audit), sources, log: None })
    }
}

/// A hook, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HookName {
    /// XDP; where that cannot be had, tcx
    Auto,
    /// In the driver, or at the entrance of the network stack
    Xdp,
    /// Behind XDP, in front of the network stack: beside the XDP program of another, and on devices without XDP (Linux 6.6)
    Tcx,
}

impl HookName {
    fn key(self) -> &'static str {
        match self {
            Self::Auto => HookChoice::Auto.key(),
            Self::Xdp => HookChoice::Xdp(ModeChoice::Auto).key(),
            Self::Tcx => HookChoice::Tcx.key(),
        }
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
