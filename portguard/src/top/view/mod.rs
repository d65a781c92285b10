//! From what is known to what is on the screen; pure.

mod fit;
mod followed;
mod help;
mod interfaces;
mod numbers;
mod palette;
mod sources;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, RenderDirection, Sparkline};

pub use palette::Palette;

use self::fit::{cut, fitting};
use crate::time;
use crate::top::model::Model;
use crate::top::rate::History;
use crate::top::view_state::{Page, ViewState};

/// The smallest screen on which there is anything to see.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws the page that the user wants to see. The live model may be older than the state.
pub fn draw(frame: &mut Frame<'_>, live: &Model, state: &ViewState, every: Duration, palette: Palette) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let told = [format!("needs {width}x{height} or more"), "too small".to_owned()];
        frame.render_widget(Line::styled(fitting(area.width, told), palette.trouble()), area);
        return;
    }
    let model = state.shown(live);
    let trouble = u16::from(model.trouble().is_some());
    let [head, warning, page, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(trouble),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    self::head(frame, head, model, state, every, palette);
    if let Some(trouble) = model.trouble() {
        frame.render_widget(Line::styled(cut(trouble, area.width), palette.trouble()), warning);
    }
    match state.page {
        Page::Help => help::draw(frame, page, palette),
        Page::Followed => followed::draw(frame, page, model, palette),
        Page::Sources | Page::Filter => {
            let rest = interfaces::draw(frame, page, model, state, palette);
            sources::draw(frame, rest, model, state, palette);
        }
    }
    frame.render_widget(Line::styled(keys(state.page, area.width), palette.bar()).style(palette.bar()), foot);
}

fn head(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    state: &ViewState,
    every: Duration,
    palette: Palette,
) {
    let mut left = vec![Span::styled("portguard top", palette.bold())];
    if state.is_paused() {
        left.push(Span::raw("  "));
        left.push(Span::styled("PAUSED: space continues", palette.trouble()));
    }
    let left = Line::from(left);
    // Not over what is at the left.
    let room = area.width.saturating_sub(u16::try_from(left.width()).unwrap_or(u16::MAX).saturating_add(1));
    let taken_at = time::seconds(model.taken_at());
    let right = [format!("{taken_at}, every {} s", every.as_secs()), taken_at, String::new()];
    frame.render_widget(left, area);
    frame.render_widget(Line::styled(fitting(room, right), palette.dim()).right_aligned(), area);
}

/// The keys of a page, as many as there is room for.
fn keys(page: Page, width: u16) -> String {
    let keys: &[&str] = match page {
        Page::Sources => {
            &["? help", "q quit", "p b r l sort", "/ filter", "space pause", "enter follow", "tab interface"]
        }
        Page::Filter => &["type part of an address, or a prefix", "enter keeps it", "esc gives up"],
        Page::Followed => &["esc back", "space pause", "? help", "q quit"],
        Page::Help => &["esc back", "q quit"],
    };
    let mut line = String::new();
    for key in keys {
        if line.len() + key.len() + 3 <= width.into() {
            line += &format!(" {key}  ");
        }
    }
    line
}

/// A line across the screen, with a title.
fn rule<'a>(title: Line<'a>, palette: Palette) -> Block<'a> {
    Block::new().borders(Borders::TOP).border_style(palette.dim()).title(title)
}

/// A history, newest at the right, up to its peak.
fn graph(history: &History, width: u16) -> Sparkline<'_> {
    let peak = history.peak(width.into()).ceil() as u64;
    // Whatever is more than nothing can be seen to be.
    let samples = history.newest_first().take(width.into());
    let bars: Vec<Option<u64>> = samples.map(|sample| sample.map(|rate| rate.ceil() as u64)).collect();
    Sparkline::default().data(bars).max(peak.max(1)).direction(RenderDirection::RightToLeft)
}
