//! The keys, and what the numbers mean.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::top::view::{Palette, rule};

const KEYS: [(&str, &str); 9] = [
    ("p b r l", "sort by packets, bytes, rate, last seen"),
    ("/", "filter: type part of an address, or a prefix (c clears it)"),
    ("up down", "choose a source (also k j, page up, page down, home, end)"),
    ("enter", "follow the chosen source: all of its numbers, and its own graph"),
    ("tab", "show one interface after the other, and all again"),
    ("space", "pause the display; packets are counted meanwhile"),
    ("ctrl-l", "redraw the screen"),
    ("? or h", "this page"),
    ("q", "quit (also ctrl-c, and esc where there is no page to go back from)"),
];

const NOTES: [&str; 8] = [
    "Packets are for port 111. Totals are exact: those of `portguard stats`.",
    "Rates are those between the last two readings. A graph has a column for each,",
    "the last one at the right; it is blank where there was no guard to be read.",
    "share: of all denied packets here. mostly: the most frequent request.",
    "first, last: how long ago the source was first and last seen.",
    "unattributed: packets of sources that other sources have replaced.",
    "Most sources of a reflection attack are victims: their addresses are forged.",
    "In audit mode nothing is dropped; packets that would be are counted.",
];

/// Draws the help.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, palette: Palette) {
    let mut text: Vec<Line<'static>> = KEYS
        .iter()
        .map(|(key, does)| {
            Line::from(vec![Span::styled(format!(" {key:<9}"), palette.name()), Span::raw(*does)])
        })
        .collect();
    text.push(Line::default());
    text.extend(NOTES.iter().map(|note| Line::raw(format!(" {note}"))));
    let block = rule(Line::raw(" help "), palette);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), area);
}
