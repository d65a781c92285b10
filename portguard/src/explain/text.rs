//! The text of a list that is in force in the kernel, which only knows the numbers of its entries.

use std::fs;

use crate::allowlist::{Allowlist, Checked, MAX_FILE_SIZE, Sha256Sum, last_good};
use crate::guard::ListInfo;

/// The text of a list in force, as far as it can still be found.
#[derive(Debug)]
pub struct Text {
    allowlist: Option<Allowlist>,
    changed_on_disk: bool,
}

impl Text {
    /// The file of a list, if it still holds that list; else the copy of the last good list, if that does.
    pub fn of(list: &ListInfo) -> Self {
        if let Some(allowlist) = in_file(list) {
            return Self { allowlist: Some(allowlist), changed_on_disk: false };
        }
        // A copy that cannot be used is as good as none.
        let copy = last_good::of(&list.path).ok().flatten();
        Self { allowlist: copy.filter(|copy| copy.sha256() == list.sha256), changed_on_disk: true }
    }

    /// The list with its lines and comments.
    pub fn allowlist(&self) -> Option<&Allowlist> {
        self.allowlist.as_ref()
    }

    /// Whether the file holds something else than the list in force, or is gone.
    pub fn changed_on_disk(&self) -> bool {
        self.changed_on_disk
    }
}

/// The list as its file has it, whoever may write that by now: it is not put in force, and its hash tells that it was.
fn in_file(list: &ListInfo) -> Option<Allowlist> {
    let metadata = fs::metadata(&list.path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_SIZE {
        return None;
    }
    let bytes = fs::read(&list.path).ok()?;
    if Sha256Sum::of(&bytes) != list.sha256 {
        return None;
    }
    let Checked { allowlist, .. } = Allowlist::parse(&list.path, &bytes).ok()?;
    Some(allowlist)
}
