//! The command line, as types: no logic here.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use portguard_common::transport::Protocol;

use crate::interface::XdpMode;
use crate::service::metrics;

/// Where the allowlist is when nobody says otherwise.
pub const DEFAULT_ALLOWLIST: &str = "/etc/portguard/allowlist.yaml";

/// Guards port 111 (rpcbind) with XDP: only the sources on your allowlist get through.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put the guard on interfaces; it stays until `detach`
    Attach(Attach),
    /// Take the guard off interfaces
    Detach(Detach),
    /// Put a changed allowlist in force, in one step
    Reload(Reload),
    /// Keep a change that `attach --confirm` or `reload --confirm` has put on trial
    Confirm(Confirm),
    /// Keep interfaces guarded, as a service that follows the list and the interfaces
    Run(Run),
    /// Show which guard is on which interface, with which list
    Status(Status),
    /// Show what was allowed and dropped, in total and per source
    Stats(Stats),
    /// Show the same live, with rates, in the terminal
    Top(Top),
    /// Validate an allowlist without touching the kernel
    Check(Check),
    /// Ask the guard's program what becomes of packets from an address, and which entry decides
    Explain(Explain),
    /// Propose an allowlist, from what this host knows of its clients
    Suggest(Suggest),
    /// Write down the evidence that an abuse desk asks for
    Report(Report),
    /// Ask a host's port 111 as an attacker would, and show what it answers
    Probe(Probe),
    /// Check what on this host works, or stands in the way of a guard, and say what to do
    Doctor(Doctor),
    /// Take a change on trial back unless it is confirmed: started by `--confirm`
    #[command(hide = true)]
    Guardian(Guardian),
}

/// How the kernel runs the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// Native; generic where the driver refuses, or native would bind what comes later (bonds); it says so
    Auto,
    /// In the driver, before the kernel allocates anything
    Native,
    /// In the network stack: without help of the driver, slower
    Generic,
    /// On the card: refused, as the program would have to be loaded for that card alone
    Offload,
}

impl ModeChoice {
    /// The word for it, as it is typed.
    pub fn key(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => XdpMode::Native.key(),
            Self::Generic => XdpMode::Generic.key(),
            Self::Offload => XdpMode::Offload.key(),
        }
    }
}

/// What `attach` and `run` name of the order of a guard.
#[derive(Debug, Args)]
pub struct GuardOptions {
    /// How the kernel runs the guard [default: auto]
    #[arg(long, value_enum)]
    pub mode: Option<ModeChoice>,
    /// Let everything through; count what would be dropped
    #[arg(long)]
    pub audit: bool,
    /// Drop what the list does not allow: the default
    #[arg(long, conflicts_with = "audit")]
    pub enforce: bool,
    /// Remember so many denied sources, on each CPU and of each address family [default: 16384, fewer on hosts with
    /// many CPUs or little memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    pub sources: Option<u32>,
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(
    after_help = "A guard that is there is renewed in place, without a gap. It keeps its list, its mode and everything else that is \
    not named here, and its list is read again."
)]
pub struct Attach {
    /// The interfaces to guard
    #[arg(value_name = "IFACE", required = true)]
    pub interfaces: Vec<String>,
    /// The allowlist [default: that of the guard; of a new one, $PORTGUARD_ALLOWLIST or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH")]
    pub allowlist: Option<PathBuf>,
    /// What guard.
    #[command(flatten)]
    pub guard: GuardOptions,
    /// Take a list that has lost all entries of an address family
    #[arg(long)]
    pub allow_empty: bool,
    /// Let what was before come back after SECONDS (60 if none are given), unless the change is confirmed: on the
    /// terminal, or by `portguard confirm`
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub confirm: Option<u64>,
}

/// Arguments of `detach`.
#[derive(Debug, Args)]
#[command(override_usage = "portguard detach <IFACE>...\n       portguard detach --all")]
pub struct Detach {
    /// The interfaces to leave unguarded
    #[arg(value_name = "IFACE", required_unless_present = "all", conflicts_with = "all")]
    pub interfaces: Vec<String>,
    /// Every guarded interface of this network namespace
    #[arg(long)]
    pub all: bool,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// The guarded interfaces to reload [default: all of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// The allowlist [default: the file that the guard was given]
    #[arg(long, value_name = "PATH")]
    pub allowlist: Option<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Take a list that has lost all entries of an address family
    #[arg(long)]
    pub allow_empty: bool,
    /// Let what was before come back after SECONDS (60 if none are given), unless the change is confirmed: on the
    /// terminal, or by `portguard confirm`
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "dry_run")]
    pub confirm: Option<u64>,
}

/// Arguments of `confirm`.
#[derive(Debug, Args)]
pub struct Confirm {
    /// The interfaces whose change to keep [default: all of this network namespace on which one waits]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
}

/// Arguments of `guardian`.
#[derive(Debug, Args)]
pub struct Guardian {
    /// Distinguishes the change from others
    pub token: u64,
}

/// How log entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for the eye, with `name=value` for each detail
    Text,
    /// A JSON object on each line
    Json,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The interfaces to keep guarded, whether they are there yet or not
    #[arg(value_name = "IFACE", required = true)]
    pub interfaces: Vec<String>,
    /// The allowlist [default: /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH", env = "PORTGUARD_ALLOWLIST")]
    pub allowlist: Option<PathBuf>,
    /// What guard.
    #[command(flatten)]
    pub guard: GuardOptions,
    /// Serve metrics for Prometheus: to this host only if no address is given, on port 9111 if no port is
    #[arg(long, value_name = "ADDR:PORT", env = "PORTGUARD_METRICS", value_parser = metrics::address::parse)]
    pub metrics: Option<SocketAddr>,
    /// Log a sample of the dropped packets
    #[arg(long)]
    pub log_drops: bool,
    /// Log at most N of them a second, and as many at once; say how many were left out
    #[arg(long, value_name = "N", requires = "log_drops", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub log_rate: u32,
    /// How log entries are written
    #[arg(long, value_enum, requires = "log_drops", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "EXIT STATUS: 0 if every guard that is shown drops what is denied; 1 if one of them only counts it \
    (audit mode), or cannot be read, or an interface is open that should have a guard; 4 if a named interface does not exist or has no guard.\n\n\
    With --guarded: 0 if every named interface has a guard, enforcing or in audit mode; without names, 0 if there is a \
    guard, and 1 if there is none."
)]
pub struct Status {
    /// The interfaces to show [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Accept guards in audit mode; fail if there is no guard
    #[arg(long)]
    pub guarded: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The order of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// Most packets first
    Packets,
    /// Most bytes first
    Bytes,
    /// Last seen first
    Recent,
}

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// The interfaces to show [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Show at most N sources per interface; the rest is summed up [default: 20 as text, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// The order of the sources
    #[arg(long, value_enum, default_value_t = SortKey::Packets)]
    pub sort: SortKey,
    /// Print one JSON document
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the sources as comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Set the counters back to zero; what is printed is what they held
    #[arg(long)]
    pub reset: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "Press ? for the keys, and q to leave.")]
pub struct Top {
    /// The interfaces to show [default: all guarded ones of this network namespace, as they come and go]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Look at the counters every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub interval: u16,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The allowlist to validate
    #[arg(value_name = "PATH", env = "PORTGUARD_ALLOWLIST", default_value = DEFAULT_ALLOWLIST)]
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 0 if all packets are allowed, and with 1 if some are dropped, or would be if the \
    guard were not in audit mode."
)]
pub struct Explain {
    /// The sources to ask about
    #[arg(value_name = "ADDR", required = true)]
    pub sources: Vec<String>,
    /// The guarded interface that the packets come in on [default: all of this network namespace, one by one]
    #[arg(long = "iface", value_name = "IFACE")]
    pub interface: Option<String>,
    /// The protocol of the packets [default: both]
    #[arg(long = "proto", value_name = "PROTOCOL", value_parser = protocol())]
    pub protocol: Option<Protocol>,
    /// Judge by this file, whatever is guarded [default: the guards' lists; without any guard, $PORTGUARD_ALLOWLIST
    /// or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH", conflicts_with = "interface")]
    pub allowlist: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `suggest`.
#[derive(Debug, Args)]
#[command(
    after_help = "Looks into /etc/exports and /etc/exports.d, at the networks of the interfaces, at the clients of \
    the NFS server and of statd, and at who has asked over TCP on interfaces in audit mode."
)]
pub struct Suggest {
    /// Propose networks of links, too (169.254.0.0/16, fe80::/10)
    #[arg(long)]
    pub link_local: bool,
    /// Where the files are
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub root: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks this host's own rpcbind, over the loopback interface, how large its answers are; nothing that \
    changes it."
)]
pub struct Report {
    /// The interfaces to report on [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Name at most N sources per interface; the rest is summed up [default: 20 as text, else all]
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Print one JSON document
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print the sources as comma-separated values
    #[arg(long)]
    pub csv: bool,
}

/// Reads a protocol by its key.
fn protocol() -> impl TypedValueParser<Value = Protocol> {
    let values = Protocol::ALL.map(|protocol| {
        PossibleValue::new(protocol.key()).help(match protocol {
            Protocol::Udp => "A datagram with a call",
            Protocol::Tcp => "The first segment of a connection",
        })
    });
    PossibleValuesParser::new(values).try_map(|key| Protocol::from_key(&key).ok_or("no such protocol"))
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks over UDP and TCP, with calls that only read. Exits with 0 if it could ask, whatever it has found, and with \
    1 if the host is unknown or cannot be reached."
)]
pub struct Probe {
    /// The host, by its name or an address [default: this host's own addresses, over the loopback interface]
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// How long to wait for answers; and for the addresses of a name
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing. Exits with 1 if a check has failed, and with 0 if there are warnings at most. Without root, it says what it \
    could not see."
)]
pub struct Doctor {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(choice: &impl ValueEnum) -> String {
        choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    #[test]
    fn modes_are_typed_as_they_are_shown() {
        for choice in ModeChoice::value_variants() {
            assert_eq!(typed(choice), choice.key());
        }
        for mode in XdpMode::ALL {
            assert!(ModeChoice::value_variants().iter().any(|choice| choice.key() == mode.key()), "{mode:?}");
        }
    }
}
