//! `portguard run`: keeps interfaces guarded, as a service.

use std::process::ExitCode;

use crate::cli::Run;
use crate::error::Result;
use crate::guard::LogLimit;
use crate::ops::default_allowlist;
use crate::service::{self, Ending, ServiceOrder};

/// `EX_TEMPFAIL` of sysexits.h: the unit starts the service again (`RestartForceExitStatus=`).
const START_AGAIN: u8 = 75;

/// Guards the interfaces until it is told to stop; the guards stay on after that.
///
/// # Errors
/// What [`crate::commands::attach`] fails for, at the start. Whatever goes wrong later is told, and the guards stay as
/// they are.
pub fn run(args: &Run) -> Result<ExitCode> {
    let log = if args.log_drops { LogLimit::PerSecond(args.log_rate) } else { LogLimit::Off };
    let order = ServiceOrder {
        allowlist: args.allowlist.clone().unwrap_or_else(default_allowlist),
        mode: args.guard.mode,
        audit: args.guard.audit,
        sources: args.guard.sources,
        log,
    };
    let log = args.log_drops.then_some(args.log_format);
    Ok(match service::run(&args.interfaces, order, log, args.metrics)? {
        Ending::Stopped => ExitCode::SUCCESS,
        Ending::CutOff => ExitCode::from(START_AGAIN),
    })
}
