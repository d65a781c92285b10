//! Reads lists before they are put in force. It reads them before the lock is taken, because a file may be slow to read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::allowlist::{Allowlist, Checked, absolute, last_good};
use crate::error::{Error, Result};
use crate::guard::{Lock, PinRoot};
use crate::ops::Messages;
use crate::ops::trial::lock_to_change;

/// The most attempts to take the lock with lists that have not changed since they were read.
const ATTEMPTS: u32 = 8;

/// Reads a list that is to be put in force, and collects its warnings.
pub(crate) fn load(path: &Path, messages: &mut Messages) -> Result<Allowlist> {
    let Checked { allowlist, warnings } = Allowlist::load(path)?;
    messages.list_warnings(warnings);
    Ok(allowlist)
}

/// Keeps a copy of a list that has been put in force. An error is only a warning: the guard remains.
pub(crate) fn keep_last_good(list: &Allowlist, messages: &mut Messages) {
    if let Err(error) = last_good::keep(list) {
        messages.warning(error.to_string());
    }
}

/// The lists that a command puts in force, by the path of their file.
#[derive(Debug, Default)]
pub(crate) struct Lists(BTreeMap<PathBuf, Allowlist>);

impl Lists {
    /// Reads the list at a path, unless it was read and has not changed since.
    pub(crate) fn load(&mut self, path: &Path, messages: &mut Messages) -> Result<()> {
        let path = absolute(path);
        if !self.0.get(&path).is_some_and(Allowlist::is_fresh) {
            let list = load(&path, messages)?;
            self.0.insert(path, list);
        }
        Ok(())
    }

    /// The list at a path, if it was read.
    pub(crate) fn get(&self, path: &Path) -> Option<&Allowlist> {
        self.0.get(&absolute(path))
    }

    /// Takes the lock to change guards, with the current content of all wanted lists. While it waits for the lock,
    /// another portguard may put a newer list in force, or give a guard another list; it then reads the lists again.
    ///
    /// # Errors
    /// A list is invalid, so nothing must be changed; or the lock cannot be taken.
    pub(crate) fn lock(
        &mut self,
        pin_root: &PinRoot,
        messages: &mut Messages,
        wanted: impl Fn() -> Result<Vec<PathBuf>>,
    ) -> Result<Lock> {
        for _ in 0..ATTEMPTS {
            for path in wanted()? {
                self.load(&path, messages)?;
            }
            let lock = lock_to_change(pin_root, messages)?;
            let is_fresh = |path: &PathBuf| self.get(path).is_some_and(Allowlist::is_fresh);
            if wanted()?.iter().all(is_fresh) {
                return Ok(lock);
            }
        }
        Err(Error::failed("the allowlist changes faster than portguard can read it")
            .remedy("Nothing was changed. Run the command again when no process writes to the file."))
    }
}
