//! The hooks at which the kernel runs a guard's program, and which of them a user chooses.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::guard::ModeChoice;
use crate::interface::XdpMode;

/// Where a guard's program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// XDP, in a mode.
    Xdp(XdpMode),
    /// tcx, for what comes in: behind XDP (Linux 6.6 and later).
    Tcx,
}

/// A hook, whatever the mode: the programs differ by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HookKind {
    Xdp,
    Tcx,
}

impl Hook {
    /// Without the mode.
    pub(super) fn kind(self) -> HookKind {
        match self {
            Self::Xdp(_) => HookKind::Xdp,
            Self::Tcx => HookKind::Tcx,
        }
    }

    /// Its name on the command line and in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Xdp(_) => "xdp",
            Self::Tcx => "tcx",
        }
    }

    /// The mode of XDP.
    pub fn mode(self) -> Option<XdpMode> {
        match self {
            Self::Xdp(mode) => Some(mode),
            Self::Tcx => None,
        }
    }
}

impl Hook {
    /// Where that is, in a sentence: `in native mode`, `at tcx`.
    pub fn place(self) -> String {
        match self {
            Self::Xdp(_) => format!("in {self}"),
            Self::Tcx => format!("at {self}"),
        }
    }
}

/// As texts say it: `native mode`, `generic mode`, `tcx`.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xdp(mode) => write!(f, "{} mode", mode.key()),
            Self::Tcx => f.write_str(self.key()),
        }
    }
}

/// Two fields of the structure that has it: `hook`, and `mode`, which is `null` for tcx.
impl Serialize for Hook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Hook", 2)?;
        fields.serialize_field("hook", self.key())?;
        fields.serialize_field("mode", &self.mode().map(XdpMode::key))?;
        fields.end()
    }
}

/// The hook that a user chooses for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookChoice {
    /// XDP, in the best mode; tcx if XDP cannot be had.
    Auto,
    /// XDP, in a mode.
    Xdp(ModeChoice),
    /// tcx.
    Tcx,
}

impl HookChoice {
    /// Its name on the command line and in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Xdp(_) => "xdp",
            Self::Tcx => "tcx",
        }
    }

    /// The mode of XDP that is chosen; `None` for tcx.
    pub const fn mode(self) -> Option<ModeChoice> {
        match self {
            Self::Auto => Some(ModeChoice::Auto),
            Self::Xdp(mode) => Some(mode),
            Self::Tcx => None,
        }
    }

    /// The choice with these keys of hook and mode; `None` if there is no such choice.
    pub fn of_keys(hook: Option<&str>, mode: Option<&str>) -> Option<Self> {
        let mode = mode.map(ModeChoice::of_key);
        match (hook, mode) {
            (_, Some(None)) => None,
            (None | Some("auto"), None | Some(Some(ModeChoice::Auto))) => Some(Self::Auto),
            (None | Some("xdp"), Some(Some(mode))) => Some(Self::Xdp(mode)),
            (Some("xdp"), None) => Some(Self::Xdp(ModeChoice::Auto)),
            (Some("tcx"), None) => Some(Self::Tcx),
            _ => None,
        }
    }

    /// The hook, if it is named: `auto` leaves a guard where it is.
    pub(super) const fn kind(self) -> Option<HookKind> {
        match self {
            Self::Auto => None,
            Self::Xdp(_) => Some(HookKind::Xdp),
            Self::Tcx => Some(HookKind::Tcx),
        }
    }

    /// Whether tcx may be taken.
    pub(super) fn permits_tcx(self) -> bool {
        matches!(self, Self::Auto | Self::Tcx)
    }

    /// How a guard at this hook differs from the choice; `None` if it does not.
    pub(super) fn difference_of(self, now: Hook) -> Option<Difference> {
        let difference = |what, now, wanted| Some(Difference { what, now, wanted });
        match (self, now) {
            (Self::Auto | Self::Xdp(ModeChoice::Auto), Hook::Xdp(_))
            | (Self::Auto | Self::Tcx, Hook::Tcx) => None,
            (Self::Xdp(_), Hook::Tcx) | (Self::Tcx, Hook::Xdp(_)) => {
                difference("hook", now.key(), self.key())
            }
            (Self::Xdp(wanted), Hook::Xdp(mode)) if wanted.key() == mode.key() => None,
            (Self::Xdp(wanted), Hook::Xdp(mode)) => difference(Difference::MODE, mode.key(), wanted.key()),
        }
    }
}

/// A part of an order that is not as it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    /// `hook` or `mode`.
    pub what: &'static str,
    pub now: &'static str,
    pub wanted: &'static str,
}

impl Difference {
    pub(super) const MODE: &str = "mode";
}

/// As texts list it: `mode native -> generic`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, now, wanted } = self;
        write!(f, "{what} {now} -> {wanted}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_and_modes_are_chosen_by_their_keys() {
        use HookChoice::{Auto, Tcx, Xdp};
        for (hook, mode, expected) in [
            (None, None, Some(Auto)),
            (Some("auto"), None, Some(Auto)),
            (None, Some("auto"), Some(Auto)),
            (Some("xdp"), None, Some(Xdp(ModeChoice::Auto))),
            (None, Some("native"), Some(Xdp(ModeChoice::Native))),
            (Some("xdp"), Some("generic"), Some(Xdp(ModeChoice::Generic))),
            (Some("tcx"), None, Some(Tcx)),
            // A mode is one of XDP.
            (Some("tcx"), Some("generic"), None),
            (Some("auto"), Some("generic"), None),
            (Some("tc"), None, None),
            (None, Some("fast"), None),
        ] {
            assert_eq!(HookChoice::of_keys(hook, mode), expected, "{hook:?}, {mode:?}");
        }
    }

    #[test]
    fn a_guard_differs_from_a_choice_by_its_hook_or_by_its_mode() {
        let native = Hook::Xdp(XdpMode::Native);
        for (choice, now, expected) in [
            (HookChoice::Auto, native, None),
            (HookChoice::Auto, Hook::Tcx, None),
            (HookChoice::Xdp(ModeChoice::Auto), native, None),
            (HookChoice::Xdp(ModeChoice::Native), native, None),
            (HookChoice::Xdp(ModeChoice::Generic), native, Some("mode native -> generic")),
            (HookChoice::Xdp(ModeChoice::Auto), Hook::Tcx, Some("hook tcx -> xdp")),
            (HookChoice::Tcx, native, Some("hook xdp -> tcx")),
            (HookChoice::Tcx, Hook::Tcx, None),
        ] {
            let difference = choice.difference_of(now).map(|it| it.to_string());
            assert_eq!(difference.as_deref(), expected, "{choice:?}, {now:?}");
        }
    }
}
