//! What the verbs have in common that change the file of a list, and put it in force where guards use it.

mod document;
mod text;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipnet::IpNet;

use self::document::Document;
use crate::allowlist::{self, Allowlist, Checked, Conditions, ListFile, LockedListFile, read_prefix};
use crate::cli::print::{print, print_json};
use crate::cli::reload;
use crate::error::Result;
use crate::ops::list_here::ListHere;
use crate::ops::{Console as _, Message};
use crate::term::{self, Stderr};

/// The list of a host that had none: everybody is dropped.
const NEW_LIST: &str = "# Sources that may reach port 111. Everyone else is dropped.\nallow: []\n";

/// Which list, and what it may lose.
#[derive(Debug, clap::Args)]
pub struct ListOptions {
    /// The list to change [default: that of the guards of this network namespace; without any guard,
    /// $PORTGUARD_ALLOWLIST or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH")]
    pub allowlist: Option<PathBuf>,
    /// Accept a list that has lost all entries of an address family
    #[arg(long)]
    pub allow_empty: bool,
}

/// How a change is made, and shown.
#[derive(Debug, clap::Args)]
pub struct ChangeOptions {
    /// Which list.
    #[command(flatten)]
    pub list: ListOptions,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// A prefix, and the line of its entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) prefix: IpNet,
    pub(super) line: u32,
}

/// A change of a list.
#[derive(Debug)]
pub(super) struct Change {
    /// The changed list; `None` if there is nothing to change.
    pub(super) new: Option<Checked>,
    /// What it has more than the old one, with the lines of the new one.
    pub(super) added: Vec<Placed>,
    /// What has other conditions in it, with the lines of the new one.
    pub(super) changed: Vec<Placed>,
    /// What it has less, with the lines of the old one.
    pub(super) removed: Vec<Placed>,
    /// What was to be added, and is there already.
    pub(super) present: Vec<Placed>,
    /// The conditions of what it has more.
    pub(super) conditions: Conditions,
}

impl Change {
    /// The conditions of an entry of the changed list, in words.
    fn conditions_of(&self, prefix: IpNet) -> String {
        let mut entries = self.new.iter().flat_map(|new| new.allowlist.entries());
        let conditions = entries.find(|it| it.prefix() == prefix).and_then(allowlist::Entry::conditions);
        conditions.map_or_else(|| "no conditions".to_owned(), Conditions::to_string)
    }
}

/// What becomes of a list that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is made, if its directory exists and no guard uses it.
    Make,
    /// It is an error.
    Fail,
}

/// Changes a list, and puts it in force. `verb` is the name of the verb.
pub(super) fn change(
    options: &ChangeOptions,
    verb: &str,
    missing: Missing,
    compute: impl FnOnce(&Allowlist) -> Result<Change>,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let allow_empty = options.list.allow_empty;
    let here = ListHere::find(options.list.allowlist.as_deref(), verb)?;
    let file = ListFile::at(&here.path)?;
    let mut exists = file.exists();
    // From here on, until the new list is written, nothing is printed: another portguard may wait.
    let mut locked = None;
    if !options.dry_run {
        let taken = lock(file)?;
        exists = taken.exists();
        locked = Some(taken);
    }
    let old = match missing {
        Missing::Make if !exists => {
            here.require_unused()?;
            Allowlist::parse(&here.path, NEW_LIST.as_bytes())?
        }
        _ => Allowlist::load(&here.path)?,
    };
    let old = old.allowlist;
    let changed_before = exists && here.differs_from(old.sha256());
    let mut change = compute(&old)?;
    let warnings = match &mut change.new {
        Some(Checked { allowlist: new, warnings }) => {
            here.require_reloadable(old.sha256(), new, allow_empty)?;
            if let Some(locked) = locked.take() {
                locked.replace(new.text())?;
            }
            Some(warnings.clone())
        }
        None => None,
    };
    drop(locked);
    if let Some(warnings) = warnings {
        Stderr.show(&Message::ListWarnings(warnings));
    }
    if !options.json {
        print(out, &text::changes(&here.path, &change, options.dry_run))?;
    }
    let list = change.new.as_ref().map_or(&old, |new| &new.allowlist);
    let code = match (&change.new, options.dry_run) {
        (Some(_), true) if options.json => ExitCode::SUCCESS,
        (Some(_), true) => {
            let mut messages = term::messages();
            here.compare(list, allow_empty, &mut messages)?;
            super::print::finish(messages, out)?
        }
        (Some(_), false) => {
            if !exists {
                term::note(&format!("{} is new", text::path(&here.path)));
            }
            if changed_before {
                term::note("the list had been changed since it was put in force: all of it comes into force");
            }
            match options.json {
                true => put_in_force(&here, list, allow_empty, &mut io::sink())?,
                false => put_in_force(&here, list, allow_empty, out)?,
            }
        }
        (None, _) => {
            if changed_before {
                term::note("the list is not in force as it is in the file: portguard reload");
            }
            ExitCode::SUCCESS
        }
    };
    if options.json {
        print_json(out, &Document::new(&here, &change, list, options.dry_run))?;
    }
    Ok(code)
}

/// Takes the lock of a list.
pub(super) fn lock(file: ListFile) -> Result<LockedListFile> {
    file.lock(|| term::note("waiting for another portguard that changes the list"))
}

/// The text of a list that is to be edited; that of a new list, if there is none and no guard uses it.
pub(super) fn text_of(here: &ListHere, exists: bool) -> Result<Vec<u8>> {
    if exists {
        return Ok(Allowlist::read(&here.path)?);
    }
    here.require_unused()?;
    Ok(NEW_LIST.as_bytes().to_vec())
}

/// Puts the content of the file in force on the guards that use it, and prints the differences.
pub(super) fn put_in_force(
    here: &ListHere,
    list: &Allowlist,
    allow_empty: bool,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    match here.users() {
        Err(why) => {
            term::note(&format!(
                "it is not known which guards use the list, so it was not put in force: {why}"
            ));
            return Ok(ExitCode::SUCCESS);
        }
        Ok([]) => {
            term::note("no guard here uses the list: it comes into force with portguard attach");
            return Ok(ExitCode::SUCCESS);
        }
        Ok(_) => {}
    }
    let (mut names, mut text) = (Vec::new(), String::new());
    for state in here.state(list.sha256()) {
        match state.in_force {
            // The service that keeps the guard has noticed the new file first.
            true => text += &text::in_force(&state),
            false => names.push(state.interface),
        }
    }
    print(out, &text)?;
    if names.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let reloaded = reload::put_in_force(names, allow_empty, out);
    if !matches!(reloaded, Ok(ExitCode::SUCCESS)) {
        term::note("the file was changed, but its list is not in force everywhere: portguard reload");
    }
    reloaded
}

/// Reads a prefix of the command line, as an entry of a list is read.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    read_prefix(text)
}

/// Prefixes, each once, as they are on a list, or as they are missing.
pub(super) fn sorted_out(prefixes: &[IpNet], list: &Allowlist) -> (Vec<Placed>, Vec<IpNet>) {
    let lines: HashMap<IpNet, u32> =
        list.entries().iter().map(|entry| (entry.prefix(), entry.line())).collect();
    let mut seen = HashSet::new();
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    for &prefix in prefixes.iter().filter(|prefix| seen.insert(**prefix)) {
        match lines.get(&prefix) {
            Some(&line) => present.push(Placed { prefix, line }),
            None => missing.push(prefix),
        }
    }
    (present, missing)
}

/// The path of a list, in text.
pub(super) fn shown(path: &Path) -> String {
    text::path(path)
}
