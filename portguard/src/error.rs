//! The error type of all commands: what failed, why, and what to do next.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter;

/// The result of a function whose error is shown to a user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure; it decides the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command failed for another reason.
    Failed,
    /// The command line is not valid.
    Usage,
    /// The allowlist breaks one of its rules.
    InvalidAllowlist,
    /// The interface does not exist, or has no guard.
    NotThere,
    /// A capability is missing.
    NotPermitted,
    /// An interface cannot be guarded at a hook, and perhaps at another one.
    HookRefused,
    /// The command failed, and guards on top of the interface were detached for a moment without a result.
    LiftedInVain,
}

impl Kind {
    /// The exit code of the process, as documented for users.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::HookRefused | Self::LiftedInVain => 1,
            Self::Usage => 2,
            Self::InvalidAllowlist => 3,
            Self::NotThere => 4,
            Self::NotPermitted => 5,
        }
    }
}

/// A failure in three parts, in the order in which a user reads them: what failed, why, and what to do about it.
///
/// There is one idiom: `Error::failed(what)`, then `because(text)` or `caused_by(error)`, then `remedy(help)`.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    why: Option<Why>,
    remedy: Option<String>,
}

/// The cause of a failure.
#[derive(Debug)]
enum Why {
    /// A text.
    Text(String),
    /// Another error.
    Source(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// A failure of this class; `what` names the object and the operation that failed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), why: None, remedy: None }
    }

    /// Shorthand for a failure with exit code 1.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Kind::Failed, what)
    }

    /// The same failure with another class.
    #[must_use]
    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Adds the cause as a text.
    #[must_use]
    pub fn because(self, why: impl fmt::Display) -> Self {
        Self { why: Some(Why::Text(why.to_string())), ..self }
    }

    /// Adds the cause as an error, which remains the [source](StdError::source). If a system call was not permitted, the
    /// class becomes [`Kind::NotPermitted`], unless it is another one than [`Kind::Failed`] already.
    #[must_use]
    pub fn caused_by(self, error: impl StdError + Send + Sync + 'static) -> Self {
        let is_not_permitted = chain(&error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
        let kind = if self.kind == Kind::Failed && is_not_permitted { Kind::NotPermitted } else { self.kind };
        Self { kind, why: Some(Why::Source(Box::new(error))), ..self }
    }

    /// Adds the advice for the user, as a full sentence.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// The object and the operation that failed.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The text of the cause, followed by the causes of that cause. A text that is part of an earlier one is left out.
    pub fn why(&self) -> Option<String> {
        match self.why.as_ref()? {
            Why::Text(text) => Some(text.clone()),
            Why::Source(error) => {
                let mut text = String::new();
                for cause in chain(&**error).map(ToString::to_string) {
                    if text.is_empty() {
                        text = cause;
                    } else if !text.contains(&cause) {
                        text = format!("{text}: {cause}");
                    }
                }
                Some(text)
            }
        }
    }

    /// The advice for the user.
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// An error, followed by its sources.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = self.why() {
            write!(f, ": {}", why.trim_end_matches('.'))?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, ". {remedy}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.why {
            Some(Why::Source(error)) => Some(&**error),
            Some(Why::Text(_)) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of a library, which does not show its cause itself.
    #[derive(Debug)]
    struct CallFailed(io::Error);

    impl fmt::Display for CallFailed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the call failed")
        }
    }

    impl StdError for CallFailed {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn causes_are_shown_kept_and_decide_the_class() {
        let refused = || CallFailed(io::Error::from_raw_os_error(libc::EPERM));
        let error = Error::failed("cannot attach").caused_by(refused()).remedy("Become root.");
        assert_eq!(
            error.to_string(),
            "cannot attach: the call failed: Operation not permitted (os error 1). Become root."
        );
        let source = error.source().unwrap();
        assert!(source.is::<CallFailed>(), "{source:?}");
        assert_eq!(error.kind(), Kind::NotPermitted);
        assert_eq!(Error::new(Kind::Usage, "top").caused_by(refused()).kind(), Kind::Usage);
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Error::failed("cannot write").caused_by(full).kind(), Kind::Failed);
    }

    #[test]
    fn a_cause_that_was_said_is_not_repeated() {
        let inner = Error::failed("cannot read").caused_by(io::Error::from_raw_os_error(libc::ENOENT));
        let outer = Error::failed("cannot begin").caused_by(inner);
        assert_eq!(outer.to_string(), "cannot begin: cannot read: No such file or directory (os error 2)");
    }
}
