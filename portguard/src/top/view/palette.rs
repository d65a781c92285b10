//! What things look like, with colours and without.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours; what matters is said in words, or bold, as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// With colours.
    Colours,
    /// Bold, dim and reversed only.
    Plain,
}

impl Palette {
    /// Plain if `NO_COLOR` says so (no-color.org), or the terminal has none.
    pub fn of_environment() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let monochrome = env::var("TERM").is_ok_and(|term| term.starts_with("vt") || term.ends_with("-m"));
        if is_set("NO_COLOR") || monochrome { Self::Plain } else { Self::Colours }
    }

    fn colour(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    pub(super) fn refused(self) -> Style {
        self.colour(Color::Red)
    }

    pub(super) fn allowed(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn trouble(self) -> Style {
        self.colour(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn name(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn bar(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
