//! Cost against the size of the list, and against the number of sources, as drawings.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;
use portguard_testkit::built::workspace;

use super::results::{Case, Family, Results, Sources, TestProgram};
use super::table::points;
use super::test_run::LIST;

/// Lines to be drawn, each with its name.
type Lines = Vec<(String, RGBColor, Vec<(f64, f64)>)>;

/// The drawings, below the root of the workspace.
pub(super) const LISTS: &str = "docs/performance-lists.svg";
/// See above.
pub(super) const SOURCES: &str = "docs/performance-sources.svg";

const SIZE: (u32, u32) = (840, 480);

/// Draws both.
pub(super) fn draw(results: &Results) -> Result<()> {
    let lists = |case: &Case| case.list;
    let is_flood = |case: &Case| case.source_count == results.machine.flood;
    let is_usual = |case: &Case| case.list == LIST;
    draw_one(
        LISTS,
        "Denied, random sources: cost over a bare XDP_DROP, by the size of the list",
        "prefixes",
        &both(|family| points(results, family, Sources::Denied, lists, is_flood)),
    )?;
    draw_one(
        SOURCES,
        "Denied: cost over a bare XDP_DROP, by the number of sources",
        "sources",
        &both(|family| points(results, family, Sources::Denied, |case| case.source_count, is_usual)),
    )
}

/// The lines of both families.
fn both(points: impl Fn(Family) -> Vec<(TestProgram, Vec<(f64, f64)>)>) -> Lines {
    let mut lines = Lines::new();
    for family in Family::ALL {
        for (tested, points) in points(family) {
            // A point is no line; and who knows no list has only one.
            if points.len() > 1 {
                lines.push((format!("{tested}, {family}"), colour(tested, family), points));
            }
        }
    }
    lines
}

fn colour(tested: TestProgram, family: Family) -> RGBColor {
    match (tested, family) {
        (TestProgram::Portguard, Family::V4) => RGBColor(0x1b, 0x7f, 0x4d),
        (TestProgram::Portguard, Family::V6) => RGBColor(0x7c, 0xc4, 0x9a),
        (TestProgram::LpmLru, Family::V4) => RGBColor(0xb0, 0x3a, 0x2e),
        (TestProgram::LpmLru, Family::V6) => RGBColor(0xe0, 0x94, 0x8c),
        (_, Family::V4) => RGBColor(0x33, 0x55, 0x99),
        (_, Family::V6) => RGBColor(0x90, 0xa8, 0xd8),
    }
}

fn draw_one(path: &str, title: &str, axis: &str, lines: &Lines) -> Result<()> {
    let path = workspace().join(path);
    let svg = svg(title, axis, lines).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
    write(&path, &svg)
}

fn svg(title: &str, axis: &str, lines: &Lines) -> Result<String, Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|(_, _, points)| points);
    let [widest, highest] =
        [all().map(|point| point.0).fold(10.0, f64::max), all().map(|point| point.1).fold(2.0, f64::max)];
    let narrowest = all().map(|point| point.0).fold(widest, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d((narrowest..widest * 1.1).log_scale(), (0.9..highest * 1.2).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(axis)
            .y_desc("times a bare program")
            .x_label_formatter(&|number| format!("{number:.0}"))
            .y_label_formatter(&|number| format!("{number:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (name, colour, points) in lines {
            let style = ShapeStyle::from(colour).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

fn write(path: &Path, svg: &str) -> Result<()> {
    fs::write(path, svg.to_owned() + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_names_its_lines() {
        let line = vec![(10.0, 1.0), (1000.0, 2.0), (1e6, 53.0)];
        let svg = svg("title", "prefixes", &vec![("somebody".to_owned(), BLUE, line)]).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        assert!(svg.contains("somebody") && svg.contains("prefixes"), "{svg}");
    }
}
