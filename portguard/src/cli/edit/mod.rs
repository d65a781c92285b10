//! `portguard edit`: edits the list as visudo edits sudoers, and puts it in force.

mod copy;
mod question;

use std::io::Write;
use std::process::ExitCode;

use self::copy::Copy;
use self::question::{Reply, ask};
use crate::allowlist::{Allowlist, Checked, ListFile, Sha256Sum};
use crate::cli::change::{self, ListOptions};
use crate::error::{Error, Result};
use crate::ops::list_here::ListHere;
use crate::ops::{Console as _, Message};
use crate::term::{self, Stderr};

/// Arguments of `edit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The editor is $VISUAL, else $EDITOR, else sensible-editor or vi. It gets a copy of the list. The copy is \
        checked, and if it is not valid, edit asks on the terminal what to do. Without a terminal, it exits with 3, and says where \
        the copy is. A valid copy takes the place of the file in one step, and is put in force on each guard here that uses the \
        file. If the file was changed meanwhile, it stays as it is, and so does the copy.\n\n\
        Example: EDITOR=nano portguard edit"
)]
pub struct Args {
    /// Which list.
    #[command(flatten)]
    pub list: ListOptions,
}

/// Lets the user edit a copy of the list until it is valid, and puts it in the place of the file.
///
/// # Errors
/// The editor fails; the list is not valid, and nobody can be asked; the file was changed meanwhile, or cannot be changed.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let here = ListHere::find(args.list.allowlist.as_deref(), "edit")?;
    // Before somebody edits in vain.
    let file = ListFile::at(&here.path)?;
    let before = change::text_of(&here, file.exists())?;
    let copy = Copy::of(&here.path, &before)?;
    let edited = edit(args, &here, &copy, &before).and_then(|edited| {
        if let Edited::New(new) = &edited {
            replace(&here, file, &before, &new.allowlist, args.list.allow_empty)?;
        }
        Ok(edited)
    });
    match edited {
        Ok(Edited::New(new)) => {
            let Checked { allowlist, warnings } = *new;
            copy.remove();
            Stderr.show(&Message::ListWarnings(warnings));
            change::put_in_force(&here, &allowlist, args.list.allow_empty, out)
        }
        Ok(Edited::Unchanged) => {
            copy.remove();
            term::note(&format!("{} is unchanged", change::shown(&here.path)));
            Ok(ExitCode::SUCCESS)
        }
        Ok(Edited::Discarded) => {
            copy.remove();
            Err(Error::failed(format!("{} was not changed", change::shown(&here.path)))
                .because("the edited list was discarded"))
        }
        Err(error) => {
            copy.tell_kept(&before);
            Err(error)
        }
    }
}

/// What has become of a copy.
enum Edited {
    New(Box<Checked>),
    Unchanged,
    Discarded,
}

/// Lets the user edit the copy, until it is valid or is given up.
fn edit(args: &Args, here: &ListHere, copy: &Copy, before: &[u8]) -> Result<Edited> {
    copy.edit()?;
    loop {
        let text = copy.read()?;
        if text == before {
            return Ok(Edited::Unchanged);
        }
        let error = match check(args, here, before, &text) {
            Ok(checked) => return Ok(Edited::New(Box::new(checked))),
            Err(error) => error,
        };
        match ask(&error)? {
            Some(Reply::Edit) => copy.edit()?,
            Some(Reply::Show) => {}
            Some(Reply::Discard) => return Ok(Edited::Discarded),
            None => return Err(error),
        }
    }
}

/// Whether the text can take the place of the list.
fn check(args: &Args, here: &ListHere, before: &[u8], text: &[u8]) -> Result<Checked> {
    let checked = Allowlist::parse(&here.path, text)?;
    here.require_reloadable(Sha256Sum::of(before), &checked.allowlist, args.list.allow_empty)?;
    Ok(checked)
}

/// Puts the edited list in the place of the file, unless somebody else has changed that.
fn replace(here: &ListHere, file: ListFile, before: &[u8], new: &Allowlist, allow_empty: bool) -> Result<()> {
    let locked = change::lock(file)?;
    if change::text_of(here, locked.exists())? != before {
        return Err(Error::failed(format!("{} was not changed", change::shown(&here.path)))
            .because("somebody else has changed it meanwhile")
            .remedy("Compare both, and edit the list again: portguard edit"));
    }
    here.require_reloadable(Sha256Sum::of(before), new, allow_empty)?;
    locked.replace(new.text())
}
