//! The SVG of a plot: a square of 1000 by 1000 that is stretched, with strokes that are not.

use std::fmt::Write as _;

use super::chart::{Chart, Series};
use super::latency::quantile;
use super::thin::{self, Spot};
use crate::format;
use crate::html::escape;
use crate::report::{Line, Style};

/// Columns to which a long series is reduced: more than a plot has pixels on most screens.
const COLUMNS: usize = 600;
/// Cells up to which points that stand alone are told apart.
const ROWS: usize = 150;
/// Tooltips of one series.
const TIPS: usize = 120;
/// Up to this many points are marked on their line.
const MARKED: usize = 24;
/// With more points than this a line is thin.
const DENSE: usize = 400;

impl Chart<'_> {
    /// The lines over their grid.
    pub(super) fn svg(&self, series: &[Series<'_>]) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        let across = |place: &f64| format!("M{} 0V1000", coordinate(*place));
        let up = |place: &f64| format!("M0 {}H1000", coordinate(1.0 - place));
        let minor = self.x.1.minor.iter().map(across).chain(self.y.1.minor.iter().map(up));
        _ = write!(svg, "<path class=\"minor\" d=\"{}\"/>", minor.collect::<String>());
        let ticks = self.x.1.ticks.iter().map(|(place, _)| across(place));
        let grid = ticks.chain(self.y.1.ticks.iter().map(|(place, _)| up(place)));
        _ = write!(svg, "<path class=\"grid\" d=\"{}\"/>", grid.collect::<String>());
        svg.push_str("<path class=\"base\" d=\"M0 0V1000H1000\"/>");
        // References lie below what was measured.
        for reference in [true, false] {
            for series in series.iter().filter(|series| series.line.is_reference() == reference) {
                svg.push_str(&self.drawn(series));
            }
        }
        svg + "</svg>"
    }

    fn drawn(&self, series: &Series<'_>) -> String {
        let Series { line, runs, class } = series;
        let mut svg = format!("<g class=\"{class}\"><title>{}</title>", escape(&line.name));
        if line.style == Style::Dots {
            let spots = thin::scattered(&runs.concat(), COLUMNS / 2, ROWS);
            _ = write!(svg, "<path class=\"dots\" d=\"{}\"/>", spots.iter().map(alone).collect::<String>());
            svg.push_str(&self.tips(line, &spots));
            return svg + "</g>";
        }
        let runs: Vec<Vec<Spot>> = runs.iter().map(|run| thin::joined(run, COLUMNS)).collect();
        let path: String = runs.iter().map(|run| joined(run)).collect();
        let spots = runs.concat();
        let class = if spots.len() > DENSE { "line dense" } else { "line" };
        _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        let single = runs.iter().filter(|run| run.len() == 1).flatten();
        let marks: String = match line.style {
            Style::Line if spots.len() <= MARKED => spots.iter().map(alone).collect(),
            _ => single.map(alone).collect(),
        };
        if !marks.is_empty() {
            _ = write!(svg, "<path class=\"halo\" d=\"{marks}\"/><path class=\"mark\" d=\"{marks}\"/>");
        }
        svg.push_str(&self.tips(line, &spots));
        svg + "</g>"
    }

    /// Places to point at.
    fn tips(&self, line: &Line, spots: &[Spot]) -> String {
        let is_level = line.is_reference() && spots.iter().all(|spot| spot.value.1 == spots[0].value.1);
        let tip = |spot: &Spot| {
            let y = format::with_unit(spot.value.1, &self.y.0.unit);
            let x = match (self.x.1.is_nines(), spot.value.0) {
                _ if is_level => String::new(),
                (true, q) => format!(" at {}", quantile(q)),
                (false, x) => format!(" at {} {}", self.x.0.label, format::with_unit(x, &self.x.0.unit)),
            };
            let title = escape(&format!("{}: {y}{x}", line.name));
            format!("<path class=\"tip\" d=\"{}\"><title>{title}</title></path>", alone(spot))
        };
        thin::some(spots, TIPS).iter().map(tip).collect()
    }
}

fn joined(run: &[Spot]) -> String {
    let mut path = String::new();
    for (index, spot) in run.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        _ = write!(path, "{command}{} {}", coordinate(spot.at.0), coordinate(1.0 - spot.at.1));
    }
    path
}

/// A path of almost no length: its end is the point. Without any length some printers leave out square ends.
fn alone(spot: &Spot) -> String {
    format!("M{} {}h.1", coordinate(spot.at.0), coordinate(1.0 - spot.at.1))
}

fn coordinate(place: f64) -> String {
    // Plus zero: never -0.
    format!("{}", (place * 10_000.0).round() / 10.0 + 0.0)
}
