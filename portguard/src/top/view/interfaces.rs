//! The interfaces: what is dropped and allowed on each, now and before.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::guard::calls::{self, Calls};
use crate::ops::state;
use crate::printable::counted;
use crate::time;
use crate::top::model::{Guarded, Model, Watched};
use crate::top::rate::{History, Rate};
use crate::top::view::fit::{cut, fitting};
use crate::top::view::numbers::{byte_rate, packet_rate, per_second, share, whole};
use crate::top::view::{Palette, graph, rule};
use crate::top::view_state::ViewState;
use portguard_common::rpc::Procedure;
use portguard_common::totals::Count;
use unicode_width::UnicodeWidthStr as _;

/// The rows that are left for the sources, at least.
const SOURCES: u16 = 8;
/// Beside the graphs: the title, and what was asked for.
const BESIDE_GRAPHS: u16 = 2;
/// The rows of each of the two graphs.
const GRAPH: std::ops::RangeInclusive<u16> = 2..=5;
/// The columns left of the graphs.
const NUMBERS: u16 = 46;

/// Draws as many interfaces as there is room for, and returns what room is left.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    view: &ViewState,
    palette: Palette,
) -> Rect {
    let interfaces: Vec<&Watched> = model.interfaces(view.interface.as_deref()).collect();
    if interfaces.is_empty() {
        let none = [
            "no interface of this network namespace is guarded (portguard attach IFACE)".to_owned(),
            "no interface of this network namespace is guarded".to_owned(),
            "no interface is guarded".to_owned(),
        ];
        let none = fitting(area.width, none);
        let [line, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        frame.render_widget(Line::styled(none, palette.trouble()), line);
        return rest;
    }
    let least = BESIDE_GRAPHS + 2 * GRAPH.start();
    let shown = usize::from(area.height.saturating_sub(SOURCES) / least).clamp(1, interfaces.len());
    // Not more than a third of the screen, unless it takes more to show them at all.
    let each = area.height / 3 / shown as u16;
    let rows = (each.saturating_sub(BESIDE_GRAPHS) / 2).clamp(*GRAPH.start(), *GRAPH.end());
    let height = |watched: &&Watched| if watched.state.is_ok() { BESIDE_GRAPHS + 2 * rows } else { 2 };
    let mut constraints: Vec<Constraint> =
        interfaces[..shown].iter().map(height).map(Constraint::Length).collect();
    let hidden = interfaces.len() - shown;
    constraints.push(Constraint::Length(u16::from(hidden > 0)));
    constraints.push(Constraint::Fill(1));
    let areas = Layout::vertical(constraints).split(area);
    for (watched, area) in interfaces.iter().zip(&areas[..shown]) {
        interface(frame, *area, watched, rows, palette);
    }
    if hidden > 0 {
        let more = [
            format!("and {}: tab shows each", counted(hidden as u64, "more guarded interface")),
            format!("and {hidden} more: tab shows each"),
        ];
        let more = fitting(area.width, more);
        frame.render_widget(Line::styled(more, palette.bold()), areas[shown]);
    }
    areas[shown + 1]
}

fn interface(frame: &mut Frame<'_>, area: Rect, watched: &Watched, rows: u16, palette: Palette) {
    let name = Span::styled(format!(" {}: ", watched.name), palette.name());
    let guarded = match &watched.state {
        Ok(guarded) => guarded,
        Err(why) => {
            let block = rule(Line::from(vec![name, Span::raw("not guarded ")]), palette);
            let why = why.strip_prefix(&format!("{}: ", watched.name)).unwrap_or(why);
            let why = Line::styled(cut(why, area.width), palette.trouble());
            frame.render_widget(Paragraph::new(why).block(block), area);
            return;
        }
    };
    let reading = &guarded.reading;
    let (short, style) =
        if reading.enforcing { ("enforcing", Style::new()) } else { ("audit only", palette.trouble()) };
    let (hook, since) = (reading.hook, time::seconds(reading.snapshot.since));
    let room = area.width.saturating_sub(u16::try_from(name.width()).unwrap_or(u16::MAX));
    let long = state(reading.enforcing);
    let texts = [
        format!("{long}, {hook}, since {since} "),
        format!("{long}, {hook} "),
        format!("{long} "),
        format!("{short} "),
    ];
    let block = rule(Line::from(vec![name, Span::styled(fitting(room, texts), style)]), palette);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [refused, allowed, asked] =
        Layout::vertical([Constraint::Length(rows), Constraint::Length(rows), Constraint::Length(1)])
            .areas(inside);
    let total = refused_total(guarded);
    let name = if reading.enforcing { "dropped" } else { "would drop" };
    line(frame, refused, (name, total, guarded.refused), &watched.refused, palette.refused(), palette);
    let allow = ("allowed", reading.snapshot.allowed, guarded.allowed);
    line(frame, allowed, allow, &watched.allowed, palette.allowed(), palette);
    frame.render_widget(asked_for(guarded, asked.width, palette), asked);
}

/// What the rate is the growth of: in audit mode, what would have been dropped.
fn refused_total(guarded: &Guarded) -> Count {
    let snapshot = &guarded.reading.snapshot;
    if guarded.reading.enforcing { snapshot.dropped() } else { snapshot.would_drop }
}

/// Numbers and graph of what is dropped, or allowed.
fn line(
    frame: &mut Frame<'_>,
    area: Rect,
    (name, total, rate): (&str, Count, Option<Rate>),
    history: &History,
    style: Style,
    palette: Palette,
) {
    let [numbers, right] = Layout::horizontal([Constraint::Length(NUMBERS), Constraint::Fill(1)]).areas(area);
    let now = format!("{:>10}  {:>11}", packet_rate(rate), byte_rate(rate));
    let peak = per_second(history.peak(right.width.into()));
    let packets = counted(total.packets, "packet");
    // The peak is that of the graph, if there is one.
    let long = format!("in total {packets}, peak {peak}");
    let texts = [
        if right.width > 0 { long } else { format!("in total {packets}") },
        format!("in total {packets}"),
        format!("in total {} packets", whole(total.packets)),
    ];
    let before = fitting(numbers.width.saturating_sub(3), texts);
    let text = vec![
        Line::from(vec![
            Span::styled(format!(" {name:<12}"), style.patch(palette.bold())),
            Span::styled(now, palette.bold()),
        ]),
        Line::from(vec![Span::raw("   "), Span::raw(before)]),
    ];
    frame.render_widget(Paragraph::new(text), numbers);
    frame.render_widget(graph(history, right.width).style(style), right);
}

/// What the denied packets have asked for, most first; and what was counted while the guard was in the other mode.
fn asked_for(guarded: &Guarded, width: u16, palette: Palette) -> Line<'static> {
    let snapshot = &guarded.reading.snapshot;
    let requests = Calls::from(snapshot.requests);
    let of = |procedure| requests.udp.of(procedure) + requests.tcp_best_effort.of(procedure);
    let sum = requests.udp.sum() + requests.tcp_best_effort.sum();
    let mut asked: Vec<(u64, &str)> =
        Procedure::ALL.map(|procedure| (of(procedure), calls::name(procedure))).to_vec();
    asked.retain(|(count, _)| *count > 0);
    asked.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let other = if guarded.reading.enforcing { snapshot.would_drop } else { snapshot.dropped() };
    let what = if guarded.reading.enforcing { "let through in audit mode" } else { "dropped before" };
    let other = (other.packets > 0).then(|| {
        [
            format!("  (and {} {what})", counted(other.packets, "packet")),
            format!("  (and {} {what})", whole(other.packets)),
        ]
    });
    let mut parts: Vec<String> =
        asked.iter().map(|(count, name)| format!("  {name} {}", share(*count, sum))).collect();
    if asked.is_empty() {
        parts.push("  nothing so far".to_owned());
    }
    let title = Span::styled(" requested", palette.dim());
    let room = width.saturating_sub(u16::try_from(title.width()).unwrap_or(u16::MAX));
    // What was counted in the other mode comes last, and is left out last but for what is asked for most.
    let other = other.map(|texts| fitting(room.saturating_sub(parts[0].width() as u16), texts));
    let other = other.filter(|text| !text.contains('…')).unwrap_or_default();
    while parts.len() > 1
        && parts.iter().map(|part| part.width()).sum::<usize>() + other.width() > room.into()
    {
        parts.pop();
    }
    let text = parts.concat() + &other;
    Line::from(vec![Span::styled(" requested", palette.dim()), Span::raw(text)])
}
