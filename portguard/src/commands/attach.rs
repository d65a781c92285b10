//! `portguard attach`: puts the guard on interfaces, or renews the guards that are there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{Attach, DEFAULT_ALLOWLIST};
use crate::commands::{for_each, load_allowlist, lock, print, unique};
use crate::error::Result;
use crate::guard::{self, Attached, Home, Options};
use crate::interface;
use crate::output;

/// Attaches to each of the interfaces, after the whole list has been found valid.
///
/// # Errors
/// The list is invalid, the process is not permitted, or there is no place to keep guards; what goes wrong with one
/// interface is printed, and the others are attached to all the same.
pub fn run(args: &Attach, out: &mut dyn Write) -> Result<ExitCode> {
    let path = args.allowlist.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_ALLOWLIST));
    let allowlist = load_allowlist(Path::new(&path))?;
    guard::require_privileges()?;
    let home = Home::make(output::error::note)?;
    let _lock = lock(&home)?;
    guard::sweep(&home)?;
    let options = Options { mode: args.mode, audit: args.audit };
    let entries = allowlist.entries().len();
    let entries = format!("{entries} {}", if entries == 1 { "entry" } else { "entries" });
    let state = if args.audit { "audit only, nothing is dropped" } else { "enforcing" };
    Ok(for_each(unique(&args.interfaces), |name| {
        let interface = interface::by_name(name)?;
        match guard::attach(&home, &interface, &allowlist, options)? {
            Attached::New { mode, fallback } => {
                if let Some(refusal) = fallback {
                    output::error::note(&format!("{refusal}"));
                    output::error::note(&format!("{name}: generic mode instead; it costs more per packet"));
                }
                print(out, &format!("{name}: attached in {} mode, {state}, {entries}\n", mode.word()))
            }
            Attached::Renewed => {
                print(out, &format!("{name}: renewed in place, {state}, {entries}, counters kept\n"))
            }
        }
    }))
}
