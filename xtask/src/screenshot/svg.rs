//! A terminal's screen as a drawing. Text is placed run by run, and blocks and lines are drawn as shapes, so that columns
//! align whatever font the reader has.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

/// The place of a character, in pixels.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
/// From the top of a row to the line that the letters stand on.
const BASELINE: f64 = 13.5;
const MARGIN: f64 = 14.0;

const FOREGROUND: &str = "#d4d7dd";
const BACKGROUND: &str = "#16191f";
/// The first eight colours of terminals.
const COLOURS: [&str; 8] =
    ["#3b4048", "#f0616d", "#62c073", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d4d7dd"];

/// What neighbours must share to be one run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    foreground: String,
    background: String,
    bold: bool,
    dim: bool,
}

impl Look {
    fn of(cell: &Cell) -> Self {
        let (mut foreground, mut background) =
            (colour(cell.fgcolor(), FOREGROUND), colour(cell.bgcolor(), BACKGROUND));
        if cell.inverse() {
            (foreground, background) = (background, foreground);
        }
        Self { foreground, background, bold: cell.bold(), dim: cell.dim() }
    }

    /// As attributes of what is drawn in the foreground.
    fn attributes(&self) -> String {
        let opacity = if self.dim { " fill-opacity=\"0.6\"" } else { "" };
        format!("fill=\"{}\"{opacity}", self.foreground)
    }
}

fn colour(colour: Color, default: &str) -> String {
    match colour {
        Color::Default => default.to_owned(),
        Color::Idx(index) => COLOURS[usize::from(index) % COLOURS.len()].to_owned(),
        Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
    }
}

/// The drawing of a screen.
pub(super) fn draw(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) =
        (f64::from(columns) * WIDTH + 2.0 * MARGIN, f64::from(rows) * HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"14\">\n<title>portguard top</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for row in 0..rows {
        for (column, look, text) in runs(screen, row, columns) {
            draw_run(&mut svg, row, column, &look, &text);
        }
    }
    svg + "</svg>\n"
}

/// The cells of a row: where each run begins, what it looks like, and its characters.
fn runs(screen: &Screen, row: u16, columns: u16) -> Vec<(u16, Look, Vec<char>)> {
    let mut runs: Vec<(u16, Look, Vec<char>)> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        let (look, character) = (Look::of(cell), cell.contents().chars().next().unwrap_or(' '));
        match runs.last_mut() {
            Some((_, last, text)) if *last == look => text.push(character),
            _ => runs.push((column, look, vec![character])),
        }
    }
    runs
}

fn draw_run(svg: &mut String, row: u16, column: u16, look: &Look, text: &[char]) {
    let top = MARGIN + f64::from(row) * HEIGHT;
    let left = |index: usize| MARGIN + (f64::from(column) + index as f64) * WIDTH;
    let mut rect = |x: f64, y: f64, width: f64, height: f64, attributes: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.2}\" width=\"{width:.1}\" height=\"{height:.2}\" {attributes}/>"
        );
    };
    if look.background != BACKGROUND {
        let fill = format!("fill=\"{}\"", look.background);
        rect(left(0), top, text.len() as f64 * WIDTH, HEIGHT, &fill);
    }
    for (index, character) in text.iter().enumerate() {
        match character {
            '▁'..='█' => {
                let height = HEIGHT * f64::from(*character as u32 - '▁' as u32 + 1) / 8.0;
                // Without gaps between neighbours that do not start at a whole pixel.
                rect(left(index), top + HEIGHT - height, WIDTH + 0.1, height, &look.attributes());
            }
            '─' => rect(left(index), top + HEIGHT / 2.0, WIDTH + 0.1, 1.0, &look.attributes()),
            _ => {}
        }
    }
    let words = text.split(|character| is_shape(*character) || *character == ' ');
    let mut at = 0;
    for word in words {
        if !word.is_empty() {
            let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" {}{weight}>{}</text>",
                left(at),
                top + BASELINE,
                word.len() as f64 * WIDTH,
                look.attributes(),
                escaped(word)
            );
        }
        at += word.len() + 1;
    }
}

fn is_shape(character: char) -> bool {
    matches!(character, '▁'..='█' | '─')
}

fn escaped(text: &[char]) -> String {
    let escape = |character: &char| match character {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        character => character.to_string(),
    };
    text.iter().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_text_and_shapes_in_their_places() {
        let mut parser = vt100::Parser::new(2, 10, 0);
        parser.process("a<b \u{1b}[1;31m▄█\u{1b}[0m\r\n\u{1b}[7mkeys".as_bytes());
        let svg = draw(parser.screen());
        let word = "x=\"14.0\" y=\"27.5\" textLength=\"25.2\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#d4d7dd\">a&lt;b<";
        assert!(svg.contains(word), "{svg}");
        assert!(
            svg.contains("<rect x=\"47.6\" y=\"23.00\" width=\"8.5\" height=\"9.00\" fill=\"#f0616d\"/>"),
            "{svg}"
        );
        assert!(
            svg.contains("<rect x=\"56.0\" y=\"14.00\" width=\"8.5\" height=\"18.00\" fill=\"#f0616d\"/>"),
            "{svg}"
        );
        // Reversed: the text has the colour of the background.
        assert!(svg.contains("fill=\"#16191f\">keys</text>"), "{svg}");
    }
}
