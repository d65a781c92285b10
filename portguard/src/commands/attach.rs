//! `portguard attach`: puts the guard on interfaces, or renews the guards that are there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::allowlist::Allowlist;
use crate::cli::{Attach, DEFAULT_ALLOWLIST};
use crate::commands::{for_each, fresh, keep_last_good, load_allowlist, lock, print, unique};
use crate::error::Result;
use crate::guard::{self, Attached, Home, Options};
use crate::interface;
use crate::output::{self, progress::Filling};

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
    let allowlist = fresh(allowlist)?;
    guard::sweep(&home)?;
    let options = Options::from(&args.guard);
    let mut in_force = false;
    let code = for_each(unique(&args.interfaces), |name| {
        let interface = interface::by_name(name)?;
        let mut filling = Filling::of(name);
        let attached =
            guard::attach(&home, &interface, &allowlist, options, &mut |event| filling.tell(event))?;
        drop(filling);
        in_force = true;
        print(out, &format!("{}\n", describe(name, attached, options, Some(&allowlist))))
    });
    if in_force {
        keep_last_good(&allowlist);
    }
    Ok(code)
}

/// What was done, in a sentence; says why a guard does not run in native mode. Without a list, the one that was in force
/// has stayed.
pub(crate) fn describe(name: &str, attached: Attached, options: Options, list: Option<&Allowlist>) -> String {
    let state = if options.audit { "audit only, nothing is dropped" } else { "enforcing" };
    let entries = match list.map(|list| list.entries().len()) {
        None => "the list in force stays".to_owned(),
        Some(1) => "1 entry".to_owned(),
        Some(entries) => format!("{entries} entries"),
    };
    match attached {
        Attached::New { mode, fallback } => {
            if let Some(refusal) = fallback {
                output::error::note(&refusal.to_string());
                output::error::note(&format!("{name}: generic mode instead; it costs more per packet"));
            }
            format!("{name}: attached in {} mode, {state}, {entries}", mode.word())
        }
        Attached::Renewed => format!("{name}: renewed in place, {state}, {entries}, counters kept"),
    }
}
