//! The allowlist: it turns YAML into validated prefixes with their lines and columns.
//!
//! [`parse`](Allowlist::parse) is pure: it turns bytes into the whole list, or into all problems with it.
//! [`load`](Allowlist::load) reads a file.

mod conditions;
mod diagnostic;
mod difference;
mod edit;
pub mod last_good;
mod lint;
mod load;
pub mod lookup_builder;
mod nodes;
mod on_disk;
mod parse;
pub(crate) mod path_walk;
mod prefix;
mod stamp;
#[cfg(test)]
mod tests;
mod text;
mod trust;

use std::fmt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jiff::Timestamp;
use portguard_common::calls::UdpCalls;
use portguard_common::listed;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

pub use self::conditions::{Conditions, Effective, InterfacePattern};
pub(crate) use self::conditions::{read_duration, read_interface, read_moment, read_rate, read_until};
pub use self::diagnostic::{Diagnostic, Diagnostics, Severity, Style};
pub use self::difference::{Difference, change_of_udp_calls};
pub use self::edit::{Addition, ListFile, LockedListFile, NewEntry, short};
pub(crate) use self::lint::oddity;
pub(crate) use self::load::absolute;
pub use self::on_disk::OnDisk;
use self::parse::Content;
pub use self::prefix::is_covered;
pub(crate) use self::prefix::read as read_prefix;
pub use self::stamp::FileStamp;
use self::text::{Source, Span};
use crate::error::{Error, Kind};
use crate::family::Family;
use crate::printable::printable;

/// The path of the allowlist if no other path is named.
pub const DEFAULT_PATH: &str = "/etc/portguard/allowlist.yaml";

/// The most prefixes of a list, for IPv4 and for IPv6 each.
pub const MAX_PREFIXES_PER_FAMILY: usize = 1 << 20;

/// The largest file that is read, in bytes: both families full, at 128 bytes an entry.
pub const MAX_FILE_SIZE: u64 = 2 * MAX_PREFIXES_PER_FAMILY as u64 * 128;

/// One prefix that may reach port 111.
#[derive(Debug, Clone)]
pub struct Entry {
    prefix: IpNet,
    comment: Option<Box<str>>,
    conditions: Option<Box<Conditions>>,
    span: Span,
}

impl Entry {
    /// The prefix; its host bits are zero.
    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// The value of the key `comment` of the entry.
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Its conditions; `None` if it has none of the keys for them.
    pub fn conditions(&self) -> Option<&Conditions> {
        self.conditions.as_deref()
    }

    /// The line of the prefix in the file; the first one is 1.
    pub fn line(&self) -> u32 {
        self.span.line
    }

    /// The column of the prefix in its line, in characters; the first one is 1.
    pub fn column(&self) -> u32 {
        self.span.column
    }
}

/// A SHA-256, usually of the bytes of a list; displayed in hexadecimal.
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
    /// The place from which the text of a list was read.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Origin {
        /// Its file.
        File = "file",
        /// The last good list from its file; see [`crate::allowlist::last_good`].
        LastGood = "last_good",
    }
}

/// A valid allowlist: no prefix occurs twice, no prefix has host bits, and each family has at most
/// [`MAX_PREFIXES_PER_FAMILY`] prefixes.
#[derive(Debug, Clone)]
pub struct Allowlist {
    path: PathBuf,
    origin: Origin,
    text: Vec<u8>,
    sha256: Sha256Sum,
    entries: Vec<Entry>,
    udp_calls: UdpCalls,
    prefixes_v4: usize,
    stamp: Option<FileStamp>,
}

impl Allowlist {
    /// Reads and validates the list at `path`.
    ///
    /// # Errors
    /// The list or its file has errors. The error contains all of them.
    pub fn load(path: &Path) -> Result<Checked, Box<Invalid>> {
        load::load(path)
    }

    /// The content of the file at `path`, which need not be a valid list.
    ///
    /// # Errors
    /// The file cannot be read, or somebody else can write it.
    pub fn read(path: &Path) -> Result<Vec<u8>, Box<Invalid>> {
        let mut errors = Diagnostics::new(path);
        let read = load::read(path, &mut errors);
        let warnings = Diagnostics::new(path);
        match read {
            Ok((bytes, _)) if errors.total() == 0 => Ok(bytes),
            Ok((bytes, _)) => {
                let sha256 = Some(Sha256Sum::of(&bytes));
                Err(Box::new(Invalid { path: path.to_owned(), sha256, errors, warnings }))
            }
            Err(unreadable) => {
                errors.push(*unreadable);
                Err(Box::new(Invalid { path: path.to_owned(), sha256: None, errors, warnings }))
            }
        }
    }

    /// Validates `bytes`, the content of the file at `path`. The path is used in messages only.
    ///
    /// # Errors
    /// The list has errors. The error contains all of them.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Checked, Box<Invalid>> {
        check(path, bytes.to_vec(), Diagnostics::new(path))
    }

    /// The same list, marked as the last good list from the file at `path`.
    pub(crate) fn last_good_of(self, path: PathBuf) -> Self {
        Self { path, origin: Origin::LastGood, stamp: None, ..self }
    }

    /// The path of the file; it is absolute if the list was loaded from the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was read from that file, or from the last good list.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether the file has not changed since the list was read from it, by its metadata. It is false for a list that
    /// was not read from its file.
    pub fn is_fresh(&self) -> bool {
        self.stamp.is_some() && self.stamp == FileStamp::at(&self.path)
    }

    /// The bytes of the list.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The SHA-256 of the bytes of the list.
    pub fn sha256(&self) -> Sha256Sum {
        self.sha256
    }

    /// The entries, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries by their numbers in the kernel: those with conditions first, each part in the order of the file.
    pub fn numbered(&self) -> impl Iterator<Item = &Entry> {
        let with = self.entries.iter().filter(|entry| entry.conditions().is_some());
        with.chain(self.entries.iter().filter(|entry| entry.conditions().is_none()))
    }

    /// The calls that the entries permit over UDP: the key `udp` of the file.
    pub fn udp_calls(&self) -> UdpCalls {
        self.udp_calls
    }

    /// The conditions that are in effect for one of its entries.
    pub fn effective<'a>(&self, entry: &'a Entry) -> Effective<'a> {
        Effective::of(entry.conditions(), self.udp_calls)
    }

    /// The number of IPv4 prefixes in the list.
    pub fn prefixes_v4(&self) -> usize {
        self.prefixes_v4
    }

    /// The number of IPv6 prefixes in the list.
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

/// A valid list with its warnings.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The list.
    pub allowlist: Allowlist,
    /// Parts of the list that are valid, but probably not intended.
    pub warnings: Diagnostics,
}

impl Checked {
    /// Adds warnings of the entries that have ended.
    pub fn warn_of_ended(&mut self, now: Timestamp) {
        let Self { allowlist, warnings } = self;
        let Ok(source) = Source::decode(&allowlist.text) else { return };
        for entry in &allowlist.entries {
            if let Some(until) = entry.conditions().and_then(|it| it.until).filter(|until| *until <= now) {
                warnings.push_with(entry.line(), entry.column(), || lint::ended(entry, until, now, &source));
            }
        }
    }
}

/// A list with errors, which must not be used.
#[derive(Debug, Clone)]
pub struct Invalid {
    /// The path of the file, as the user named it.
    pub path: PathBuf,
    /// The hash of the file's content, if it could be read. If not, there is one error: why.
    pub sha256: Option<Sha256Sum>,
    /// The errors; at least one.
    pub errors: Diagnostics,
    /// The warnings about the other parts of the list.
    pub warnings: Diagnostics,
}

impl Invalid {
    /// The problems of a list that are the source of a failure. A caller shows them before the failure itself.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// All problems in the form for users, errors first.
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
        // A file that cannot be read is no invalid list.
        if invalid.sha256.is_none()
            && let Some(problem) = invalid.errors.iter().next()
            && invalid.errors.total() == 1
        {
            let error = Self::new(Kind::InvalidAllowlist, &problem.message);
            return problem.help.iter().fold(error, |error, help| error.remedy(sentence(help)));
        }
        let path = printable(&invalid.path.to_string_lossy());
        Self::new(Kind::InvalidAllowlist, format!("{path} is not a valid allowlist")).caused_by(*invalid)
    }
}

/// An advice as a sentence.
fn sentence(help: &str) -> String {
    let mut rest = help.chars();
    let first = rest.next().map_or_else(String::new, |first| first.to_uppercase().collect());
    let end = if help.ends_with('?') { "" } else { "." };
    format!("{first}{}{end}", rest.as_str())
}

/// Validates a list; `errors` has the errors of its file already.
fn check(path: &Path, text: Vec<u8>, mut errors: Diagnostics) -> Result<Checked, Box<Invalid>> {
    let mut warnings = Diagnostics::new(path);
    let sha256 = Sha256Sum::of(&text);
    let Content { entries, udp_calls } = match Source::decode(&text) {
        Ok(source) => {
            let content = parse::parse(&source, &mut errors, &mut warnings);
            lint::lint(&content, &source, &mut errors, &mut warnings);
            content
        }
        Err(not_utf8) => {
            errors.push(*not_utf8);
            Content::default()
        }
    };
    if errors.total() > 0 {
        return Err(Box::new(Invalid { path: path.to_owned(), sha256: Some(sha256), errors, warnings }));
    }
    let prefixes_v4 = entries.iter().filter(|entry| matches!(entry.prefix, IpNet::V4(_))).count();
    let (path, origin) = (path.to_owned(), Origin::File);
    let allowlist = Allowlist { path, origin, text, sha256, entries, udp_calls, prefixes_v4, stamp: None };
    Ok(Checked { allowlist, warnings })
}
