//! The allowlist: YAML -> validated prefixes that know their line and column.
//!
//! [`parse`](Allowlist::parse) is pure: bytes in; out comes the whole list, or everything that is wrong with it. Only
//! [`load`](Allowlist::load) touches the file system.

mod diagnostic;
mod difference;
pub mod last_good;
mod lint;
mod load;
pub mod lookup_builder;
mod nodes;
mod on_disk;
mod parse;
mod prefix;
mod source;
mod stamp;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use portguard_common::listed;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use self::diagnostic::{Diagnostic, Diagnostics, Severity, Style};
pub use self::difference::Difference;
pub(crate) use self::lint::oddity;
pub use self::on_disk::OnDisk;
use self::source::{Source, Span};
pub use self::stamp::FileStamp;
use crate::error::{Error, Kind};
use crate::family::Family;
use crate::printable::printable;

/// Where the allowlist is unless another path is named.
pub const DEFAULT_PATH: &str = "/etc/portguard/allowlist.yaml";

/// The most prefixes that a list may hold, for IPv4 and for IPv6 each.
pub const MAX_PREFIXES_PER_FAMILY: usize = 1 << 20;

/// The largest file that is read, in bytes: both families full, at 128 bytes an entry.
pub const MAX_FILE_SIZE: u64 = 2 * MAX_PREFIXES_PER_FAMILY as u64 * 128;

/// One prefix that may reach port 111.
#[derive(Debug, Clone)]
pub struct Entry {
    prefix: IpNet,
    comment: Option<Box<str>>,
    span: Span,
}

impl Entry {
    /// The prefix; its host bits are zero.
    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// What the user wrote next to the prefix.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The line of the prefix in the file, from 1 on.
    pub fn line(&self) -> u32 {
        self.span.line
    }

    /// The column of the prefix in its line, in characters, from 1 on.
    pub fn column(&self) -> u32 {
        self.span.column
    }
}

/// The SHA-256 of a file's bytes; shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum([u8; 32]);

impl Sha256Sum {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256Sum {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

listed! {
    /// Where the text of a list was read from.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Origin {
        /// From its file.
        File = "file",
        /// From the copy of what its file last held in good order; see [`crate::allowlist::last_good`].
        LastGood = "last_good",
    }
}

/// A valid allowlist: no prefix twice, every prefix without host bits, at most [`MAX_PREFIXES_PER_FAMILY`] of each family.
#[derive(Debug, Clone)]
pub struct Allowlist {
    path: PathBuf,
    origin: Origin,
    text: Vec<u8>,
    sha256: Sha256Sum,
    entries: Vec<Entry>,
    prefixes_v4: usize,
    stamp: Option<FileStamp>,
}

impl Allowlist {
    /// Reads and validates the list at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with the list or with its file.
    pub fn load(path: &Path) -> Result<Checked, Box<Invalid>> {
        load::load(path)
    }

    /// Validates `bytes`, the content of the file at `path`; `path` only serves to name it.
    ///
    /// # Errors
    /// Everything that is wrong with the list.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Checked, Box<Invalid>> {
        check(path, bytes.to_vec(), Diagnostics::new(path))
    }

    /// The same list, read from the copy of what the file at `path` last held in good order.
    pub(crate) fn last_good_of(self, path: PathBuf) -> Self {
        Self { path, origin: Origin::LastGood, stamp: None, ..self }
    }

    /// The file, as an absolute path if the list was loaded from it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was read from that file.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the file has not changed since the list was read from it, as far as can be told from outside. False for a
    /// list that was not read from its file.
    pub fn is_fresh(&self) -> bool {
        self.stamp.is_some() && self.stamp == FileStamp::at(&self.path)
    }

    /// The bytes that it was read from.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The hash of these bytes.
    pub fn sha256(&self) -> Sha256Sum {
        self.sha256
    }

    /// The entries, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many IPv4 prefixes the list holds.
    pub fn prefixes_v4(&self) -> usize {
        self.prefixes_v4
    }

    /// How many IPv6 prefixes the list holds.
    pub fn prefixes_v6(&self) -> usize {
        self.entries.len() - self.prefixes_v4
    }

    /// How many prefixes of a family the list holds.
    pub fn prefixes(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.prefixes_v4(),
            Family::V6 => self.prefixes_v6(),
        }
    }
}

/// A valid list, and what is odd about it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The list.
    pub allowlist: Allowlist,
    /// What works, but is hardly meant so.
    pub warnings: Diagnostics,
}

/// A list that must not be used, and why.
#[derive(Debug, Clone)]
pub struct Invalid {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// The hash of the file's content, if it could be read.
    pub sha256: Option<Sha256Sum>,
    /// What is wrong: at least one problem.
    pub errors: Diagnostics,
    /// What is odd about the rest.
    pub warnings: Diagnostics,
}

impl Invalid {
    /// The problems of the list that a failure is about: to be shown before the failure itself.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Every problem as the user shall see it: errors first.
    pub fn render(&self, style: Style) -> String {
        self.errors.render(style) + &self.warnings.render(style)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errors.count())
    }
}

impl std::error::Error for Invalid {}

impl From<Box<Invalid>> for Error {
    fn from(invalid: Box<Invalid>) -> Self {
        let path = printable(&invalid.path.to_string_lossy());
        Self::new(Kind::InvalidAllowlist, format!("{path} is not a valid allowlist")).caused_by(*invalid)
    }
}

/// Validates `bytes`; `errors` holds what is wrong with the file already.
fn check(path: &Path, text: Vec<u8>, mut errors: Diagnostics) -> Result<Checked, Box<Invalid>> {
    let mut warnings = Diagnostics::new(path);
    let sha256 = Sha256Sum::of(&text);
    let entries = match Source::decode(&text) {
        Ok(source) => {
            let entries = parse::parse(&source, &mut errors, &mut warnings);
            lint::lint(&entries, &source, &mut errors, &mut warnings);
            entries
        }
        Err(not_utf8) => {
            errors.push(*not_utf8);
            Vec::new()
        }
    };
    if errors.total() > 0 {
        return Err(Box::new(Invalid { path: path.to_owned(), sha256: Some(sha256), errors, warnings }));
    }
    let prefixes_v4 = entries.iter().filter(|entry| matches!(entry.prefix, IpNet::V4(_))).count();
    let (path, origin) = (path.to_owned(), Origin::File);
    let allowlist = Allowlist { path, origin, text, sha256, entries, prefixes_v4, stamp: None };
    Ok(Checked { allowlist, warnings })
}
