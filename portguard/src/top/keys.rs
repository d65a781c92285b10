//! What each key means.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::top::model::Order;
use crate::top::view_state::Page;

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To leave.
    Quit,
    /// To go back to the sources.
    Back,
    /// The sources in another order.
    Sort(Order),
    /// The picture to stand still, or to move again.
    Pause,
    /// The next interface, or all again.
    NextInterface,
    /// Another source, so many further down or up.
    Move(isize),
    /// The first source.
    First,
    /// The last source.
    Last,
    /// To follow the source that is chosen.
    Follow,
    /// To be told the keys.
    Help,
    /// To type a filter.
    Filter,
    /// This character in the filter.
    Type(char),
    /// One character less in the filter.
    Erase,
    /// No filter at all.
    Clear,
    /// The filter as it was typed.
    Accept,
    /// Everything drawn afresh.
    Redraw,
}

/// How far the keys for pages go.
const A_PAGE: isize = 10;

/// The action of a key on a page. Letting go of a key means nothing.
pub fn action(key: &KeyEvent, page: &Page) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('u') if *page == Page::Filter => Some(Action::Clear),
            _ => None,
        };
    }
    match page {
        Page::Filter => typed(key.code),
        Page::Help => match key.code {
            KeyCode::Char('q') => Some(Action::Quit),
            KeyCode::Esc | KeyCode::Enter | KeyCode::Char('?' | 'h' | ' ') => Some(Action::Back),
            _ => None,
        },
        Page::Followed => match key.code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => Some(Action::Back),
            code => common(code),
        },
        Page::Sources => on_sources(key.code),
    }
}

fn common(code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('q') => Some(Action::Quit),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Char(' ') => Some(Action::Pause),
        _ => None,
    }
}

fn on_sources(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Esc => Action::Quit,
        KeyCode::Char('p') => Action::Sort(Order::Packets),
        KeyCode::Char('b') => Action::Sort(Order::Bytes),
        KeyCode::Char('r') => Action::Sort(Order::Rate),
        KeyCode::Char('l') => Action::Sort(Order::Recent),
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('c') => Action::Clear,
        KeyCode::Tab => Action::NextInterface,
        KeyCode::Up | KeyCode::Char('k') => Action::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Action::Move(1),
        KeyCode::PageUp => Action::Move(-A_PAGE),
        KeyCode::PageDown => Action::Move(A_PAGE),
        KeyCode::Home => Action::First,
        KeyCode::End => Action::Last,
        KeyCode::Enter | KeyCode::Char('f') => Action::Follow,
        code => return common(code),
    })
}

fn typed(code: KeyCode) -> Option<Action> {
    Some(match code {
        KeyCode::Enter => Action::Accept,
        KeyCode::Esc => Action::Back,
        KeyCode::Backspace => Action::Erase,
        KeyCode::Char(character) => Action::Type(character),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(page: &Page, code: KeyCode) -> Option<Action> {
        action(&KeyEvent::new(code, KeyModifiers::NONE), page)
    }

    #[test]
    fn control_c_leaves_from_everywhere() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for page in [Page::Sources, Page::Followed, Page::Help, Page::Filter] {
            assert_eq!(action(&key, &page), Some(Action::Quit), "{page:?}");
        }
    }

    #[test]
    fn escape_leaves_the_page_and_at_last_the_program() {
        assert_eq!(on(&Page::Sources, KeyCode::Esc), Some(Action::Quit));
        for page in [Page::Followed, Page::Help, Page::Filter] {
            assert_eq!(on(&page, KeyCode::Esc), Some(Action::Back), "{page:?}");
        }
    }

    #[test]
    fn letters_are_text_in_a_filter_only() {
        assert_eq!(on(&Page::Filter, KeyCode::Char('b')), Some(Action::Type('b')));
        assert_eq!(on(&Page::Sources, KeyCode::Char('b')), Some(Action::Sort(Order::Bytes)));
        assert_eq!(on(&Page::Followed, KeyCode::Char('b')), None);
    }

    #[test]
    fn letting_go_means_nothing() {
        let mut key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        key.kind = KeyEventKind::Release;
        assert_eq!(action(&key, &Page::Sources), None);
    }
}
