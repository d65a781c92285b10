//! `portguard probe`: asks a host's port 111 as an attacker would.

pub mod document;
pub mod text;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use self::document::Document;
use crate::cli::print::{print, print_json};
use crate::error::{Error, Result};
use crate::guard;
use crate::probe::verdict::Verdict;
use crate::probe::{self, targets};
use crate::rpcbind::Programs;
use crate::term;

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "probe sends requests over UDP and TCP, with calls that only read. It exits with 0 if it \
        could send the requests, with any verdict, and with 1 if the host is unknown or cannot be reached."
)]
pub struct Args {
    /// The host, by its name or an address [default: this host's own addresses, over the loopback interface]
    #[arg(value_name = "HOST")]
    pub host: Option<String>,
    /// The time to wait for replies, and for the addresses of a name
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// How many addresses are asked at the same time; hosts have fewer.
const MOST: usize = 64;

/// Prints what answers. Whatever that is, the probe has succeeded.
///
/// # Errors
/// The host is not known, or cannot be reached.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let limit = Duration::from_secs(args.timeout);
    let mut targets = match &args.host {
        Some(host) => targets::of(host, limit)?,
        None => targets::own()?,
    };
    if targets.len() > MOST {
        let left_out = targets.split_off(MOST).len();
        term::warning(&format!("only the first {MOST} addresses are probed, and {left_out} are left out"));
    }
    let findings = probe::probe(targets, limit);
    let document = Document::new(guard::unix_now(), args.host.clone(), &findings, &Programs::of_this_host());
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &text::text(&document))?;
    }
    if document.verdict == Verdict::Unreachable {
        let why = document.addresses.iter().find_map(|address| address.udp.problem.clone());
        return Err(Error::failed(format!("cannot reach {}", document.shown_host()))
            .because(why.unwrap_or_default())
            .remedy("Check the route (ip route get ADDRESS), and that no firewall refuses the packets."));
    }
    Ok(ExitCode::SUCCESS)
}
