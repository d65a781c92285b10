//! What the user has asked to see: the page, the order, the filter, the chosen source. Pure.

use crate::top::filter::Filter;
use crate::top::keys::Action;
use crate::top::model::{Key, Model, Order, Row, Watched};

/// What is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Interfaces and sources.
    Sources,
    /// The same, while a filter is typed.
    Filter,
    /// One source.
    Followed,
    /// The keys.
    Help,
}

/// The chosen source, and where it was in the list: if it is gone, the one in its place is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chosen {
    key: Key,
    index: usize,
}

/// What is to be shown, of two models: the one that moves and, while the picture stands still, what it was then.
#[derive(Debug, Clone)]
pub struct ViewState {
    /// The page.
    pub page: Page,
    /// The order of the sources.
    pub order: Order,
    /// Which sources are shown.
    pub filter: Filter,
    /// The only interface to show.
    pub interface: Option<String>,
    chosen: Option<Chosen>,
    frozen: Option<Model>,
    /// The page that is shown again after the help.
    behind: Page,
    /// The filter that is put back if typing is given up.
    before: Filter,
}

impl Default for ViewState {
    fn default() -> Self {
        Self {
            page: Page::Sources,
            order: Order::Rate,
            filter: Filter::default(),
            interface: None,
            chosen: None,
            frozen: None,
            behind: Page::Sources,
            before: Filter::default(),
        }
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// With the next picture.
    Show,
    /// With a screen that is cleared first.
    Redraw,
    /// Not.
    Quit,
}

impl ViewState {
    /// What is shown of a model that goes on.
    pub fn shown<'a>(&'a self, live: &'a Model) -> &'a Model {
        self.frozen.as_ref().unwrap_or(live)
    }

    /// Whether the picture stands still.
    pub fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// The sources that are shown, in order.
    pub fn rows<'a>(&'a self, shown: &'a Model) -> Vec<(&'a Watched, &'a Row)> {
        shown.rows(self.interface.as_deref(), &self.filter, self.order)
    }

    /// Where the chosen source is among those that are shown.
    pub fn cursor(&self, rows: &[(&Watched, &Row)]) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        let is_it = |(watched, row): &(&Watched, &Row)| {
            row.source.address == chosen.key.address && watched.name == chosen.key.interface
        };
        let last = rows.len().checked_sub(1)?;
        Some(rows.iter().position(is_it).unwrap_or(chosen.index.min(last)))
    }

    /// Does what the user wants.
    pub fn apply(&mut self, action: Action, live: &mut Model) -> Flow {
        match action {
            Action::Quit => return Flow::Quit,
            Action::Redraw => return Flow::Redraw,
            Action::Sort(order) => self.order = order,
            Action::Pause => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some(live.clone()),
                };
            }
            Action::NextInterface => self.interface = self.next_interface(live),
            Action::Move(by) => self.choose(live, |index, _| {
                // The first step chooses the first source.
                index.map_or(0, |index| index.saturating_add_signed(by))
            }),
            Action::First => self.choose(live, |_, _| 0),
            Action::Last => self.choose(live, |_, last| last),
            Action::Follow => self.follow(live),
            Action::Help => {
                self.behind = self.page;
                self.page = Page::Help;
            }
            Action::Back => self.back(live),
            Action::Filter => {
                self.before = self.filter.clone();
                self.page = Page::Filter;
            }
            Action::Type(character) => self.filter.push(character),
            Action::Erase => self.filter.pop(),
            Action::Clear => self.filter = Filter::default(),
            Action::Accept => self.page = Page::Sources,
        }
        Flow::Show
    }

    fn back(&mut self, live: &mut Model) {
        self.page = match self.page {
            Page::Help => self.behind,
            Page::Followed => {
                live.follow(None);
                if let Some(frozen) = &mut self.frozen {
                    frozen.follow(None);
                }
                Page::Sources
            }
            Page::Filter => {
                self.filter = self.before.clone();
                Page::Sources
            }
            Page::Sources => Page::Sources,
        };
    }

    fn next_interface(&self, live: &Model) -> Option<String> {
        let mut names = self.shown(live).interfaces(None).map(|watched| &watched.name);
        match &self.interface {
            None => names.next().cloned(),
            Some(now) => names.skip_while(|name| *name != now).nth(1).cloned(),
        }
    }

    /// Chooses a source by what is chosen now, and the index of the last one.
    fn choose(&mut self, live: &Model, index: impl FnOnce(Option<usize>, usize) -> usize) {
        let rows = self.rows(self.shown(live));
        let Some(last) = rows.len().checked_sub(1) else {
            self.chosen = None;
            return;
        };
        let index = index(self.cursor(&rows), last).min(last);
        let (watched, row) = rows[index];
        let key = Key { interface: watched.name.clone(), address: row.source.address };
        self.chosen = Some(Chosen { key, index });
    }

    fn follow(&mut self, live: &mut Model) {
        // Without a choice, the first one.
        self.choose(live, |index, _| index.unwrap_or(0));
        let Some(Chosen { key, .. }) = &self.chosen else { return };
        live.follow(Some(key.clone()));
        if let Some(frozen) = &mut self.frozen {
            frozen.follow(Some(key.clone()));
        }
        self.page = Page::Followed;
    }
}
