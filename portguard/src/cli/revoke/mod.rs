//! `portguard revoke`: takes entries out of the list, and puts it in force.

use std::io::Write;
use std::process::ExitCode;

use ipnet::IpNet;

use crate::allowlist::{Allowlist, Conditions, Entry};
use crate::cli::change::{self, Change, ChangeOptions, Missing};
use crate::error::{Error, Result};

/// The most entries that an error names.
const NAMED: usize = 5;

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An entry goes with all its lines and the comment at the end of its last line; comments on lines of their own \
        stay. If a prefix is not the prefix of an entry, nothing is changed, and the entries that cover it are named. A list \
        without entries of a family that the list in force has is refused without --allow-empty, as by reload.\n\n\
        Example: portguard revoke 192.0.2.0/24"
)]
pub struct Args {
    /// The prefixes or addresses to take out, as the list has them
    #[arg(value_name = "PREFIX", required = true, value_parser = change::prefix)]
    pub prefixes: Vec<IpNet>,
    /// How.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Takes out the entry of each prefix.
///
/// # Errors
/// A prefix has no entry; the list is invalid or cannot be changed; or it was changed, and a guard cannot take it.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    change::change(&args.change, "revoke", Missing::Fail, |list| removed(args, list), out)
}

fn removed(args: &Args, list: &Allowlist) -> Result<Change> {
    let (removed, missing) = change::sorted_out(&args.prefixes, list);
    if !missing.is_empty() {
        return Err(not_entries(&missing, list));
    }
    let (added, changed, present) = (Vec::new(), Vec::new(), Vec::new());
    let new = Some(list.without(&args.prefixes)?);
    Ok(Change { new, added, changed, removed, present, conditions: Conditions::default() })
}

/// The error that no entry has these prefixes, with what the list has around them and inside them.
fn not_entries(prefixes: &[IpNet], list: &Allowlist) -> Error {
    let mut remedy = "Nothing was changed.";
    let mut reasons = Vec::new();
    for prefix in prefixes {
        let around = named(list, |entry| entry.contains(prefix));
        let inside = named(list, |entry| prefix.contains(entry));
        reasons.push(match (&*around, &*inside) {
            ("", "") => format!("no entry covers {prefix}"),
            ("", inside) => format!("{prefix} is no entry, and has entries inside it: {inside}"),
            (around, _) => {
                remedy = "Nothing was changed. A part of a larger prefix cannot be taken out: write smaller prefixes in its \
                          place with portguard edit";
                format!("{prefix} is no entry of its own, and is covered by {around}")
            }
        });
    }
    let path = change::shown(list.path());
    Error::failed(format!("cannot take that out of {path}")).because(reasons.join("; ")).remedy(remedy)
}

/// The entries whose prefix is one of those, with their lines.
fn named(list: &Allowlist, is: impl Fn(&IpNet) -> bool) -> String {
    let entries: Vec<&Entry> = list.entries().iter().filter(|entry| is(&entry.prefix())).collect();
    let name = |entry: &&Entry| format!("{} (line {})", entry.prefix(), entry.line());
    let mut names: Vec<String> = entries.iter().take(NAMED).map(name).collect();
    if entries.len() > NAMED {
        names.push(format!("{} more", entries.len() - NAMED));
    }
    names.join(", ")
}
