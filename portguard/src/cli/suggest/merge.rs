//! `suggest --merge`: the list of this host, with what is new.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;

use ipnet::IpNet;
use nix::sys::stat::{fstat, stat};

use super::text::new_entry;
use crate::allowlist::{Addition, Allowlist, Checked, Entry, is_covered, last_good, short};
use crate::cli::print::{print, unwritten};
use crate::error::{Error, Kind, Result};
use crate::ops::list_here::ListHere;
use crate::ops::{Console as _, Message};
use crate::printable::printable;
use crate::suggest::proposal::{LeftOut, Proposal, Proposed};
use crate::term::{self, Stderr};

/// The list that is added to: the one that is named, else that of the guards here, else the one that a new guard would get.
///
/// # Errors
/// The guards have several lists, or the process may not see them; standard output is the list; the list is invalid.
pub(super) fn list(named: Option<&Path>) -> Result<Allowlist> {
    let here = ListHere::find(named, "suggest --merge")?;
    refuse_own_file(&here.path)?;
    let allowlist = read(&here)?;
    if here.differs_from(allowlist.sha256()) {
        let path = printable(&here.path.to_string_lossy());
        term::note(&format!(
            "{path} is not the list in force: it was changed. The entries are added to the file."
        ));
    }
    Ok(allowlist)
}

/// The list that a command reads, found as [`list`] finds it.
///
/// # Errors
/// The guards have several lists, or the process may not see them; the list is invalid.
pub(super) fn load(command: &str, named: Option<&Path>) -> Result<Allowlist> {
    read(&ListHere::find(named, command)?)
}

fn read(here: &ListHere) -> Result<Allowlist> {
    let Checked { allowlist, warnings } = Allowlist::load(&here.path)?;
    Stderr.show(&Message::ListWarnings(warnings));
    Ok(allowlist)
}

/// Fails if the output would go into the list itself.
fn refuse_own_file(path: &Path) -> Result<()> {
    let (Ok(list), Ok(output)) = (stat(path), fstat(io::stdout())) else { return Ok(()) };
    if (list.st_dev, list.st_ino) != (output.st_dev, output.st_ino) {
        return Ok(());
    }
    let shown = printable(&path.to_string_lossy());
    let why = match list.st_size {
        0 => {
            "the shell has emptied it before portguard was started; the guards keep the list that is in force"
        }
        _ => "it would be written while it is read; nothing was written",
    };
    let copy = last_good::copy_of(path).filter(|_| list.st_size == 0).map_or(String::new(), |copy| {
        let copy = printable(&copy.to_string_lossy());
        format!(
            "The list that was last put in force from it is in {copy}: restore it with: cp {copy} {shown}. "
        )
    });
    Err(Error::new(Kind::Usage, format!("standard output is {shown}, the list that is added to"))
        .because(why)
        .remedy(format!(
            "{copy}Write to another file: portguard suggest --merge > NEW, then portguard check NEW, then mv NEW {shown}"
        )))
}

/// What of a proposal a list does not have: entries, and sources that are not proven.
pub fn new_in(proposal: &Proposal, list: &Allowlist) -> (Vec<Proposed>, Vec<Proposed>) {
    let listed: HashSet<IpNet> = list.entries().iter().map(Entry::prefix).collect();
    let is_new = |proposed: &&Proposed| !is_covered(proposed.prefix, &listed);
    let text = String::from_utf8_lossy(list.text());
    let entries = proposal.entries.iter().filter(is_new).cloned().collect();
    let is_open = |proposed: &&Proposed| is_new(proposed) && !is_in_a_comment(&text, proposed.prefix);
    let unproven = proposal.unproven.iter().filter(is_open).cloned().collect();
    (entries, unproven)
}

/// Whether a comment of the list has this address: a proposal that was merged before, or a remark of the administrator.
fn is_in_a_comment(text: &str, prefix: IpNet) -> bool {
    let prefix = short(prefix);
    let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix('#'));
    comments.flat_map(|comment| comment.split([' ', '"', ','])).any(|word| word == prefix)
}

/// What is added to a list.
pub fn additions(new: &[Proposed], unproven: &[Proposed], more: usize) -> Vec<Addition> {
    let mut additions: Vec<Addition> = new.iter().map(|it| Addition::Entry(new_entry(it))).collect();
    if !unproven.is_empty() {
        additions.push(Addition::Comment(super::text::UNPROVEN.to_owned()));
        additions.extend(unproven.iter().map(|it| Addition::CommentedOut(new_entry(it))));
        if more > 0 {
            additions.push(Addition::Comment(super::text::more(more)));
        }
    }
    additions
}

/// Says what is not in the list. It does not go into the list, where it would stand once more after each merge.
pub(super) fn tell_left_out(left_out: &[LeftOut]) {
    for line in left_out.iter().map(super::text::left_out) {
        term::note(&format!("not in the list: {line}"));
    }
}

/// Prints a list byte for byte; but on a terminal, characters that act on it are escaped, as everywhere.
pub(super) fn print_list(out: &mut dyn Write, list: &Allowlist) -> Result<()> {
    if io::stdout().is_terminal() {
        return print(out, &String::from_utf8_lossy(list.text()));
    }
    out.write_all(list.text()).and_then(|()| out.flush()).map_err(unwritten)
}
