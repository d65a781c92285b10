//! One error type for every command: what failed, why, and what to do next.

use std::fmt;
use std::io;

use crate::allowlist::Invalid;

/// The result of everything that can fail in front of the user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure; it decides the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command could not do what it was asked to do.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// The allowlist breaks one of its rules.
    InvalidAllowlist,
    /// There is no such interface, or no guard on it.
    NotThere,
    /// A capability is missing.
    NotPermitted,
    /// The command could not do what it was asked to do, and guards above the interface were off for a moment in vain.
    LiftedInVain,
}

impl Kind {
    /// The exit code of the process, as documented for users.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::LiftedInVain => 1,
            Self::Usage => 2,
            Self::InvalidAllowlist => 3,
            Self::NotThere => 4,
            Self::NotPermitted => 5,
        }
    }
}

/// A failure, told in the order a reader needs it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    why: Option<String>,
    remedy: Option<String>,
    allowlist: Option<Box<Invalid>>,
}

impl Error {
    /// A failure of the given class; `what` names the object and what could not be done with it.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, remedy: None, allowlist: None }
    }

    /// Shorthand for a failure with exit code 1.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// A system call that failed. Where the kernel says that it is not permitted, so does the exit code.
    pub fn from_io(what: impl Into<String>, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::NotPermitted,
            _ => Kind::Failed,
        };
        Self::new(kind, what).because(error)
    }

    /// The same failure, of another class.
    #[must_use]
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Adds what the user can do about it: a full sentence.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the problems of the allowlist that the failure is about.
    #[must_use]
    pub fn with_allowlist(mut self, invalid: Box<Invalid>) -> Self {
        self.allowlist = Some(invalid);
        self
    }

    /// The problems of the allowlist that the failure is about: to be shown before the failure itself.
    pub fn allowlist(&self) -> Option<&Invalid> {
        self.allowlist.as_deref()
    }

    /// What could not be done.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// What the user can do about it.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind: _, what, why, remedy, allowlist: _ } = self;
        f.write_str(what)?;
        if let Some(why) = why {
            write!(f, ": {}", why.trim_end_matches('.'))?;
        }
        if let Some(remedy) = remedy {
            write!(f, ". {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
