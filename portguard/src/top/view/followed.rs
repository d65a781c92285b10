//! One source: all that is known of it, and its own graph.

use portguard_common::rpc::Procedure;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr as _;

use crate::guard::calls::{self, Calls};
use crate::time;
use crate::top::model::{Followed, Model, Row};
use crate::top::view::fit::fitting;
use crate::top::view::numbers::{age, byte_rate, bytes, packet_rate, per_second, share, whole};
use crate::top::view::sources::refused;
use crate::top::view::{Palette, graph, rule};

/// The columns of the names of numbers.
const NAMES: u16 = 12;
/// The rows of the graph, at least.
const GRAPH: u16 = 3;

/// Draws the source that is followed.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let Some(followed) = model.followed() else { return };
    let Followed { key, last, is_there, history } = followed;
    let mut title = vec![Span::styled(format!(" {} ", key.address), palette.name())];
    let on = format!("on {} ", key.interface);
    if title[0].width() + on.width() <= area.width.into() {
        title.push(Span::raw(on));
    }
    let title = Line::from(title);
    let block = rule(title, palette);
    let inside = block.inner(area);
    frame.render_widget(block, area);

    let mut text = Vec::new();
    if !is_there {
        let told = [
            "The guard no longer remembers it; these are its last known values.".to_owned(),
            "The guard no longer remembers it.".to_owned(),
        ];
        text.push(Line::styled(fitting(inside.width, told), palette.trouble()));
    }
    match last {
        Some(row) => text.extend(facts(row, model, followed, inside.width)),
        None => text.push(Line::raw("No values of it are known.")),
    }
    let rows = u16::try_from(text.len()).unwrap_or(u16::MAX).min(inside.height.saturating_sub(GRAPH));
    let [above, below] = Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(inside);
    frame.render_widget(Paragraph::new(text), above);
    frame.render_widget(graph(history, below.width).style(palette.refused()), below);
}

fn facts(row: &Row, model: &Model, followed: &Followed, width: u16) -> Vec<Line<'static>> {
    let Row { source, rate } = row;
    let now = model.taken_at();
    let packets = source.count.packets;
    let all: u64 = model.interfaces(Some(&followed.key.interface)).map(refused).sum();
    let room = width.saturating_sub(NAMES + 1);
    let seen = |then| {
        let (at, ago) = (time::seconds(then), ago(now, then));
        fitting(room, [format!("{at} ({ago})"), at, ago])
    };
    let (packet_rate, byte_rate) = (packet_rate(*rate), byte_rate(*rate));
    let peak = per_second(followed.history.peak(width.into()));
    let length = bytes(source.count.bytes as f64);
    let mut lines: Vec<Line<'static>> = [
        (
            "packets",
            fitting(
                room,
                [
                    format!("{packets}, {} of all denied here", share(packets, all)),
                    packets.to_string(),
                    whole(packets),
                ],
            ),
        ),
        ("bytes", fitting(room, [format!("{} ({length})", source.count.bytes), length])),
        (
            "rate",
            fitting(
                room,
                [
                    format!("{packet_rate}, {byte_rate}; peak {peak} since it is followed"),
                    format!("{packet_rate}, {byte_rate}"),
                    packet_rate,
                ],
            ),
        ),
        ("first seen", seen(source.first_seen)),
        ("last seen", seen(source.last_seen)),
    ]
    .into_iter()
    .map(|(name, value)| Line::raw(format!(" {name:<width$}{value}", width = NAMES.into())))
    .collect();
    let calls = Calls::from(&source.asked);
    lines.push(Line::raw(format!(" {:<15}{:>12}{:>12}", "requested", "UDP", "TCP")));
    for procedure in Procedure::ALL {
        let (udp, tcp) = (calls.udp.of(procedure), calls.tcp_best_effort.of(procedure));
        if udp > 0 || tcp > 0 {
            let (udp, tcp) = (whole(udp), whole(tcp));
            lines.push(Line::raw(format!("   {:<13}{udp:>12}{tcp:>12}", calls::name(procedure))));
        }
    }
    if packets > source.tcp_packets() {
        let told = [
            " The source of UDP packets can be forged: this is probably a victim.".to_owned(),
            " Probably a victim: UDP can be forged.".to_owned(),
        ];
        lines.push(Line::raw(fitting(width, told)));
    }
    lines
}

fn ago(now: u64, then: u64) -> String {
    match age(now, then).as_str() {
        "now" => "now".to_owned(),
        age => format!("{age} ago"),
    }
}
