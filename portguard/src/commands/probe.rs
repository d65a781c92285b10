//! `portguard probe`: asks a host's port 111 as an attacker would.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Probe;
use crate::commands::{print, print_json};
use crate::error::{Error, Result};
use crate::probe::verdict::Verdict;
use crate::probe::{self, targets};
use crate::rpcbind::Programs;
use crate::{guard, output};

/// How many addresses are asked at the same time; hosts have fewer.
const MOST: usize = 64;

/// Prints what answers. Whatever that is, the probe has succeeded.
///
/// # Errors
/// The host is not known, or cannot be reached.
pub fn run(args: &Probe, out: &mut dyn Write) -> Result<ExitCode> {
    let limit = Duration::from_secs(args.timeout);
    let mut targets = match &args.host {
        Some(host) => targets::of(host, limit)?,
        None => targets::own()?,
    };
    if targets.len() > MOST {
        let left_out = targets.split_off(MOST).len();
        output::error::warning(&format!(
            "only the first {MOST} addresses are asked, and {left_out} are left out"
        ));
    }
    let findings = probe::probe(targets, limit);
    let document = output::probe::Document::new(
        guard::unix_now(),
        args.host.clone(),
        &findings,
        &Programs::of_this_host(),
    );
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &output::probe::text(&document))?;
    }
    if document.verdict == Verdict::Unreachable {
        let why = document.addresses.iter().find_map(|address| address.udp.problem.clone());
        return Err(Error::failed(format!("cannot reach {}", document.shown_host()))
            .because(why.unwrap_or_default())
            .remedy("Is there a way to it (ip route get ADDRESS), and does no firewall refuse it?"));
    }
    Ok(ExitCode::SUCCESS)
}
