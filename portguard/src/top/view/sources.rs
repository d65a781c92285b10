//! The sources: who is denied, as a table.

use portguard_common::totals::Count;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row as TableRow, Table};
use unicode_width::UnicodeWidthStr as _;

use crate::guard::calls::Calls;
use crate::printable::counted;
use crate::top::model::{Model, Order, Row, Watched};
use crate::top::rate::Rate;
use crate::top::view::fit::{cut, fitting};
use crate::top::view::numbers::{age, byte_rate, bytes, packet_rate, share, whole};
use crate::top::view::{Palette, rule};
use crate::top::view_state::{Page, ViewState};

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Interface,
    Source,
    Packets,
    Bytes,
    Rate,
    ByteRate,
    Share,
    Udp,
    Tcp,
    Mostly,
    First,
    Last,
}

impl Column {
    const ALL: [Self; 12] = [
        Self::Interface,
        Self::Source,
        Self::Packets,
        Self::Bytes,
        Self::Rate,
        Self::ByteRate,
        Self::Share,
        Self::Udp,
        Self::Tcp,
        Self::Mostly,
        Self::First,
        Self::Last,
    ];
    /// What is left out where there is no room for all, in this order.
    const DISPENSABLE: [Self; 10] = [
        Self::ByteRate,
        Self::Tcp,
        Self::Udp,
        Self::First,
        Self::Bytes,
        Self::Share,
        Self::Last,
        Self::Mostly,
        Self::Interface,
        Self::Rate,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Interface => "on",
            Self::Source => "denied source",
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Rate => "rate",
            Self::ByteRate => "bytes/s",
            Self::Share => "share",
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Mostly => "mostly",
            Self::First => "first",
            Self::Last => "last",
        }
    }

    /// The order that it shows.
    fn order(self) -> Option<Order> {
        match self {
            Self::Packets => Some(Order::Packets),
            Self::Bytes => Some(Order::Bytes),
            Self::Rate => Some(Order::Rate),
            Self::Last => Some(Order::Recent),
            _ => None,
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Interface | Self::Source | Self::Mostly)
    }

    fn width(self, shown: &[(&Watched, &Row)]) -> u16 {
        let longest = |length: fn(&(&Watched, &Row)) -> usize| {
            shown.iter().map(length).max().unwrap_or_default().try_into().unwrap_or(u16::MAX)
        };
        match self {
            Self::Interface => longest(|(watched, _)| watched.name.width()).max(2),
            Self::Source => longest(|(_, row)| row.source.address.to_string().len()).max(15),
            Self::Packets | Self::Mostly | Self::Udp | Self::Tcp => 9,
            Self::Rate => 8,
            Self::ByteRate => 9,
            Self::Bytes => 7,
            Self::Share => 6,
            Self::First | Self::Last => 5,
        }
    }

    fn text(self, watched: &Watched, row: &Row, now: u64) -> String {
        let Row { source, rate } = row;
        let Count { packets, bytes: length } = source.count;
        match self {
            Self::Interface => watched.name.clone(),
            Self::Source => source.address.to_string(),
            Self::Packets => whole(packets),
            Self::Bytes => bytes(length as f64),
            Self::Rate => packet_rate(*rate),
            Self::ByteRate => byte_rate(*rate),
            Self::Share => share(packets, refused(watched)),
            Self::Udp => whole(packets.saturating_sub(source.tcp_packets())),
            Self::Tcp => whole(source.tcp_packets()),
            Self::Mostly => Calls::from(&source.asked).mostly().to_owned(),
            Self::First => age(now, source.first_seen),
            Self::Last => age(now, source.last_seen),
        }
    }
}

/// All that was dropped on an interface, or would have been.
pub(super) fn refused(watched: &Watched) -> u64 {
    watched.state.as_ref().map_or(0, |guarded| guarded.reading.snapshot.refused().packets)
}

/// The columns that there is room for.
fn columns(width: u16, shown: &[(&Watched, &Row)], several: bool) -> Vec<Column> {
    let mut columns = Column::ALL.to_vec();
    columns.retain(|column| several || *column != Column::Interface);
    let needed = |columns: &[Column]| -> u16 {
        columns.iter().map(|column| column.width(shown) + 1).fold(0, u16::saturating_add)
    };
    for column in Column::DISPENSABLE {
        if needed(&columns) <= width {
            break;
        }
        columns.retain(|kept| *kept != column);
    }
    columns
}

/// Draws the sources around the chosen one, and below them what belongs to none.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, state: &ViewState, palette: Palette) {
    let rows = state.rows(model);
    let forgotten = unattributed(area.width, model, state);
    let [title, table, below] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(u16::from(forgotten.is_some())),
    ])
    .areas(area);
    frame.render_widget(rule(heading(&rows, area.width, model, state, palette), palette), title);
    if let Some(text) = forgotten {
        frame.render_widget(Line::styled(text, palette.bold()), below);
    }
    let height = usize::from(table.height.saturating_sub(1));
    let cursor = state.cursor(&rows);
    // The chosen one is the last that is shown, once it is further down than the screen.
    let first = cursor.map_or(0, |cursor| (cursor + 1).saturating_sub(height));
    let shown = &rows[first..rows.len().min(first + height)];
    let several = model.interfaces(state.interface.as_deref()).count() > 1;
    let columns = columns(table.width, shown, several);
    let width = |column: Column| {
        let others = columns.iter().filter(|other| **other != Column::Source);
        let others = others.map(|other| other.width(shown) + 1).fold(0, u16::saturating_add);
        match column {
            // Whatever room there is: an IPv6 address may be longer than a small screen.
            Column::Source => column.width(shown).min(table.width.saturating_sub(others)),
            _ => column.width(shown),
        }
    };
    let lines = shown.iter().enumerate().map(|(index, (watched, row))| {
        let cells = columns.iter().map(|column| {
            let text = Line::raw(cut(&column.text(watched, row, model.taken_at()), width(*column)));
            Cell::from(if column.is_text() { text } else { text.right_aligned() })
        });
        let line = TableRow::new(cells);
        if cursor == Some(first + index) { line.style(palette.bar()) } else { line }
    });
    let titles = columns.iter().map(|column| {
        let (mark, style) =
            if column.order() == Some(state.order) { ("▾", palette.name()) } else { ("", palette.bold()) };
        let text = Line::styled(format!("{}{mark}", column.title()), style);
        Cell::from(if column.is_text() { text } else { text.right_aligned() })
    });
    let widths = columns.iter().map(|column| Constraint::Length(width(*column)));
    frame.render_widget(Table::new(lines, widths).header(TableRow::new(titles)).column_spacing(1), table);
}

fn heading(
    rows: &[(&Watched, &Row)],
    width: u16,
    model: &Model,
    state: &ViewState,
    palette: Palette,
) -> Line<'static> {
    let all: usize = model
        .interfaces(state.interface.as_deref())
        .filter_map(|watched| watched.state.as_ref().ok())
        .map(|guarded| guarded.rows.len())
        .sum();
    if state.filter.is_empty() && state.page != Page::Filter {
        return Line::styled(format!(" {} ", counted(all as u64, "source")), palette.dim());
    }
    let typing = if state.page == Page::Filter { "_" } else { "" };
    let filter = format!("{}{typing} ", state.filter.text());
    let long = format!(" {} of {}, filter: ", rows.len(), counted(all as u64, "source"));
    let room = width.saturating_sub(u16::try_from(filter.width()).unwrap_or(u16::MAX));
    let told = fitting(room, [long, " filter: ".to_owned(), " ".to_owned()]);
    Line::from(vec![Span::styled(told, palette.dim()), Span::styled(filter, palette.name())])
}

/// The packets whose sources are not remembered, if there are any.
fn unattributed(width: u16, model: &Model, state: &ViewState) -> Option<String> {
    let mut sum = Count::default();
    let mut rate: Option<Rate> = None;
    for guarded in model.interfaces(state.interface.as_deref()).filter_map(|it| it.state.as_ref().ok()) {
        sum.add(guarded.reading.snapshot.unattributed);
        if let Some(more) = guarded.unattributed {
            rate = Some(rate.unwrap_or_default().plus(more));
        }
    }
    (sum.packets > 0).then(|| {
        let (packets, rate) = (counted(sum.packets, "packet"), packet_rate(rate));
        fitting(
            width,
            [
                format!("unattributed: {packets}, {rate}, of sources no longer remembered"),
                format!("unattributed: {packets}, {rate}"),
                format!("unattributed: {packets}"),
                format!("unattributed: {} packets", whole(sum.packets)),
            ],
        )
    })
}
