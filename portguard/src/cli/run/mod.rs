//! `portguard run`: keeps interfaces guarded, as a service.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;

use crate::cli::options::GuardOptions;
use crate::error::Result;
use crate::guard::LogLimit;
use crate::ops::default_allowlist;
use crate::service::metrics;
use crate::service::{self, Ending, ServiceOrder};
use crate::term::Stderr;

/// The format of log entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text, with `name=value` for each detail
    Text,
    /// A JSON object on each line
    Json,
}

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interfaces to keep guarded; they may be created later
    #[arg(value_name = "IFACE", required = true)]
    pub interfaces: Vec<String>,
    /// The allowlist [default: /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH", env = "PORTGUARD_ALLOWLIST")]
    pub allowlist: Option<PathBuf>,
    /// What guard.
    #[command(flatten)]
    pub guard: GuardOptions,
    /// Serve metrics for Prometheus: without an address, to this host only; without a port, on port 9111
    #[arg(long, value_name = "ADDR:PORT", env = "PORTGUARD_METRICS", value_parser = metrics::address::parse)]
    pub metrics: Option<SocketAddr>,
    /// Log a sample of the dropped packets
    #[arg(long)]
    pub log_drops: bool,
    /// Log at most N of them a second, on all CPUs together; log the number of those left out
    #[arg(long, value_name = "N", requires = "log_drops", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub log_rate: u32,
    /// The format of log entries
    #[arg(long, value_enum, requires = "log_drops", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// `EX_TEMPFAIL` of sysexits.h: the unit starts the service again (`RestartForceExitStatus=`).
const START_AGAIN: u8 = 75;

/// Guards the interfaces until it is told to stop; the guards stay on after that.
///
/// # Errors
/// What [`crate::cli::attach`] fails for, at the start. Whatever goes wrong later is told, and the guards stay as
/// they are.
pub fn run(args: &Args) -> Result<ExitCode> {
    let log = if args.log_drops { LogLimit::PerSecond(args.log_rate) } else { LogLimit::Off };
    let order = ServiceOrder {
        allowlist: args.allowlist.clone().unwrap_or_else(default_allowlist),
        hook: args.guard.hook()?,
        audit: args.guard.audit,
        sources: args.guard.sources,
        log,
    };
    if args.log_drops {
        write_as(args.log_format);
    }
    Ok(match service::run(&args.interfaces, order, args.metrics, Arc::new(Stderr))? {
        Ending::Stopped => ExitCode::SUCCESS,
        Ending::CutOff => ExitCode::from(START_AGAIN),
    })
}

/// Sets up how the events of `tracing` are written: on standard error, one to a line.
fn write_as(format: LogFormat) {
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false);
    match format {
        // When is in the entry.
        LogFormat::Text => lines.without_time().init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
    }
}
