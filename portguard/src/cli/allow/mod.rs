//! `portguard allow`: adds entries to the list, and puts it in force.

mod conditions;
mod listed;

use std::io::Write;
use std::process::ExitCode;

use ipnet::IpNet;

use self::conditions::ConditionOptions;
use self::listed::Renewed;
use crate::allowlist::{Addition, Allowlist, NewEntry};
use crate::cli::absent;
use crate::cli::change::{self, Change, ChangeOptions, Missing, Placed};
use crate::error::Result;
use crate::printable::is_misleading;
use crate::term;

/// Arguments of `allow`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The entries come behind the others; comments and layout of the file stay, and so do its owner, its \
        mode and symbolic links. The new list is checked before it takes the place of the old one, in one step. It is put in \
        force on each guard here that uses the file. What is on the list already is no error. A file that does not exist is \
        made if its directory exists.\n\n\
        The longest prefix decides, with its own conditions. An entry with an end, inside a larger one without, cuts its hosts off at its \
        end. What would be stricter than the entry around it is refused without --force. An entry that is on the list gets a later \
        end at once, and other conditions only with --force.\n\n\
        Examples:\n\
        portguard allow 192.0.2.0/24 2001:db8:40::/48 --comment \"NFS clients, rack 4\"\n\
        portguard allow 198.51.100.7 --for 2h --udp lookups"
)]
pub struct Args {
    /// The prefixes or addresses to allow
    #[arg(value_name = "PREFIX", required = true, value_parser = change::prefix)]
    pub prefixes: Vec<IpNet>,
    /// The comment of the new entries
    #[arg(long, value_name = "TEXT", value_parser = comment)]
    pub comment: Option<String>,
    /// Under which conditions.
    #[command(flatten)]
    pub conditions: ConditionOptions,
    /// Add entries that are stricter than the entries around them, too, and give entries that are there other conditions
    #[arg(long)]
    pub force: bool,
    /// How.
    #[command(flatten)]
    pub change: ChangeOptions,
}

/// Adds an entry for each prefix that has none.
///
/// # Errors
/// The list is invalid or cannot be changed; or it was changed, and a guard cannot take it.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if let Some(note) = absent::note(&absent::absent(args.conditions.interfaces.iter())) {
        term::note(&note);
    }
    change::change(&args.change, "allow", Missing::Make, |list| added(args, list), out)
}

fn added(args: &Args, list: &Allowlist) -> Result<Change> {
    let (mut present, missing) = change::sorted_out(&args.prefixes, list);
    let conditions = args.conditions.conditions()?;
    let renewed = listed::renewed(&mut present, &conditions, list, args.force)?;
    if !args.force {
        listed::require_as_permissive(&missing, &conditions, list)?;
    }
    let (added, changed, removed) = (Vec::new(), Vec::new(), Vec::new());
    let mut change = Change { new: None, added, changed, removed, present, conditions };
    if missing.is_empty() && renewed.is_empty() {
        return Ok(change);
    }
    let number = renewed.len();
    let old: Vec<IpNet> = renewed.iter().map(|it| it.prefix).collect();
    let renewed = renewed.into_iter().map(|Renewed { prefix, comment, conditions }| NewEntry {
        prefix,
        comment: args.comment.clone().or(comment),
        conditions,
    });
    let entry = |prefix: &IpNet| NewEntry {
        prefix: *prefix,
        comment: args.comment.clone(),
        conditions: change.conditions.clone(),
    };
    let additions: Vec<Addition> = renewed.chain(missing.iter().map(entry)).map(Addition::Entry).collect();
    let new = match number {
        0 => list.with(&additions)?,
        _ => list.without(&old)?.allowlist.with(&additions)?,
    };
    // They are behind all others.
    let entries = new.allowlist.entries().iter().skip(list.entries().len() - number);
    let mut placed: Vec<Placed> = entries.map(|it| Placed { prefix: it.prefix(), line: it.line() }).collect();
    change.added = placed.split_off(number);
    change.changed = placed;
    change.new = Some(new);
    Ok(change)
}

/// Reads a comment: one line that shows what it is.
fn comment(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("the comment is empty: leave --comment out".to_owned());
    }
    if text.contains(is_misleading) {
        return Err("a comment is one line, without control characters: write it without them".to_owned());
    }
    Ok(text.to_owned())
}
