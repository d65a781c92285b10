//! The copy of a list that an editor changes, in a directory that nobody else can read.

use std::env;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::mkdtemp;

use crate::error::{Error, Result};
use crate::printable::{printable, quoted};
use crate::term;

/// What edits a list if no variable names an editor: the first one that is there.
const EDITORS: [&str; 2] = ["sensible-editor", "vi"];
/// The exit code of a shell that has not found a command.
const NOT_FOUND: i32 = 127;

/// A copy of a list. It stays where it is until it is removed.
pub(super) struct Copy {
    directory: PathBuf,
    path: PathBuf,
}

impl Copy {
    /// A copy of a text, under the name that its list has.
    pub(super) fn of(list: &Path, text: &[u8]) -> Result<Self> {
        let failed = |error: io::Error| {
            Error::failed("cannot make a copy of the list for the editor")
                .caused_by(error)
                .remedy("Nothing was changed. Name another directory for it: TMPDIR=/var/tmp portguard edit")
        };
        let template = env::temp_dir().join("portguard-edit-XXXXXX");
        let directory = mkdtemp(&template).map_err(|errno| failed(errno.into()))?;
        // The name tells editors which language it is.
        let path = directory.join(list.file_name().unwrap_or("allowlist.yaml".as_ref()));
        let copy = Self { directory, path };
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy.path);
        new.and_then(|mut file| file.write_all(text)).map_err(|error| {
            copy.remove();
            failed(error)
        })?;
        Ok(copy)
    }

    /// Lets the user edit it, and waits for the end of the editor.
    pub(super) fn edit(&self) -> Result<()> {
        let editor = editor();
        let shown = printable(&editor.to_string_lossy());
        let failed = || Error::failed(format!("the editor {} failed", quoted(&shown)));
        // The variable is a command of the shell: it may have arguments, too.
        let mut line = editor.clone();
        line.push(" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).arg(&editor).arg(&self.path);
        let status = wait_for(&mut command).map_err(|error| failed().caused_by(error))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(NOT_FOUND) => Err(failed()
                .because("it was not found")
                .remedy("The list was not changed. Name another one: EDITOR=nano portguard edit")),
            _ => Err(failed().because(status).remedy("The list was not changed.")),
        }
    }

    /// What it holds now.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        fs::read(&self.path).map_err(|error| {
            Error::failed(format!("cannot read the edited copy {}", self.path.display())).caused_by(error)
        })
    }

    /// Says where it is, if it is worth to be kept: it differs from the list.
    pub(super) fn tell_kept(&self, list: &[u8]) {
        match fs::read(&self.path) {
            Ok(text) if text != list => {
                term::note(&format!("your edited copy is in {}", self.path.display()));
            }
            _ => self.remove(),
        }
    }

    /// Removes it. What an editor has left beside it goes as well.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            term::warning(&format!("cannot remove {}: {error}", self.directory.display()));
        }
    }
}

/// The command of the editor.
fn editor() -> OsString {
    let named = ["VISUAL", "EDITOR"].into_iter().filter_map(env::var_os).find(|value| !value.is_empty());
    named.unwrap_or_else(|| {
        let [.., last] = EDITORS;
        EDITORS.into_iter().find(|program| is_there(program)).unwrap_or(last).into()
    })
}

/// Whether a program is in a directory of `PATH`.
fn is_there(program: &str) -> bool {
    let directories = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&directories).any(|directory| directory.join(program).is_file())
}

/// Runs an editor. Ctrl-C and Ctrl-\ are for the editor meanwhile: both are in the foreground of the terminal.
fn wait_for(command: &mut Command) -> io::Result<ExitStatus> {
    let mut editor = command.spawn()?;
    let ignore = |which| {
        // SAFETY: SIG_IGN makes the kernel discard the signal: no handler runs.
        unsafe { signal(which, SigHandler::SigIgn) }
    };
    let before = (ignore(Signal::SIGINT), ignore(Signal::SIGQUIT));
    let status = editor.wait();
    for (which, before) in [(Signal::SIGINT, before.0), (Signal::SIGQUIT, before.1)] {
        if let Ok(handler) = before {
            // SAFETY: it is what was set before.
            let _ = unsafe { signal(which, handler) };
        }
    }
    status
}
