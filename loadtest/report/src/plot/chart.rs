//! A plot as a figure of the page.

use std::fmt::Write as _;

use super::ruler::{Fit, Ruler};
use super::thin::Spot;
use crate::format;
use crate::html::escape;
use crate::report::{Axis, Line, Plot, Scale, Style};

/// Kinds of colours and dashes in the style sheet.
const COLOURS: usize = 6;
const DASHES: usize = 4;
/// Width of the drawing in letters of its labels: on a telephone, and in two columns.
const NARROW: f64 = 44.0;
const WIDE: f64 = 62.0;

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) help: &'a str,
    pub(super) x: (&'a Axis, Ruler),
    pub(super) y: (&'a Axis, Ruler),
    pub(super) lines: &'a [Line],
}

/// One line of it.
pub(super) struct Series<'a> {
    pub(super) line: &'a Line,
    /// Runs of points without a gap.
    pub(super) runs: Vec<Vec<Spot>>,
    /// Colour and dash.
    pub(super) class: String,
}

/// The figure of a plot.
pub(crate) fn plot(plot: &Plot) -> String {
    let values = |of: fn(&(f64, f64)) -> f64| plot.lines.iter().flat_map(|line| line.points.iter()).map(of);
    let chart = Chart {
        id: &plot.id,
        title: &plot.title,
        help: &plot.help,
        x: (&plot.x, Ruler::of(plot.x.scale, Fit::Snug, values(|point| point.0))),
        y: (&plot.y, Ruler::of(plot.y.scale, Fit::Round, values(|point| point.1))),
        lines: &plot.lines,
    };
    chart.render("")
}

impl Chart<'_> {
    /// The figure, with this below the plot.
    pub(super) fn render(&self, below: &str) -> String {
        let series = self.series();
        let mut html =
            format!("<figure class=\"plot\" id=\"{}\"><figcaption><h3>{}</h3>", escape(self.id), escape(self.title));
        if !self.help.is_empty() {
            _ = write!(html, "<p class=\"help\">{}</p>", escape(self.help));
        }
        html.push_str("</figcaption>");
        html.push_str(&self.legend(&series));
        if series.iter().all(|series| series.runs.is_empty()) {
            html.push_str("<p class=\"empty\">no data</p>");
        } else {
            let letters = self.y.1.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(1);
            _ = write!(
                html,
                "<p class=\"up\">{}</p><div class=\"frame\" style=\"--letters:{letters}\">\
                 <div class=\"area\">{}{}</div></div><p class=\"across\">{}</p>",
                axis_title(self.y.0),
                self.svg(&series),
                self.labels(),
                axis_title(self.x.0)
            );
        }
        html.push_str(&self.left_out());
        html.push_str(below);
        html + "</figure>\n"
    }

    fn series(&self) -> Vec<Series<'_>> {
        let (mut measured, mut references) = (0, 0);
        let mut series = Vec::new();
        for line in self.lines {
            let class = if line.is_reference() {
                references += 1;
                format!("ref r{}", (references - 1) % DASHES)
            } else {
                measured += 1;
                format!("c{} d{}", (measured - 1) % COLOURS, (measured - 1) % DASHES)
            };
            series.push(Series { line, runs: self.runs(line), class });
        }
        series
    }

    fn runs(&self, line: &Line) -> Vec<Vec<Spot>> {
        let spot = |&(x, y): &(f64, f64)| Some(Spot { at: (self.x.1.at(x)?, self.y.1.at(y)?), value: (x, y) });
        let spots: Vec<Option<Spot>> = line.points.iter().map(spot).collect();
        let runs = spots.split(Option::is_none).filter(|run| !run.is_empty());
        runs.map(|run| run.iter().flatten().copied().collect()).collect()
    }

    fn legend(&self, series: &[Series<'_>]) -> String {
        if matches!(series, [only] if only.line.name.is_empty() || only.line.name == self.title) {
            return String::new();
        }
        let entries = series.iter().map(|Series { line, class, .. }| {
            let (kind, path) = if line.style == Style::Dots { ("dots", "M14 6h.1") } else { ("line", "M1 6H27") };
            let key = format!(
                "<svg class=\"key\" width=\"28\" height=\"12\" aria-hidden=\"true\">\
                 <path class=\"{kind} {class}\" d=\"{path}\"/></svg>"
            );
            format!("<li>{key}{}</li>", escape(&line.name))
        });
        format!("<ul class=\"legend\">{}</ul>", entries.collect::<String>())
    }

    fn labels(&self) -> String {
        let (wide, narrow) = (fitting(&self.x.1.ticks, WIDE), fitting(&self.x.1.ticks, NARROW));
        let mut html = String::new();
        for ((place, label), (wide, narrow)) in self.x.1.ticks.iter().zip(wide.into_iter().zip(narrow)) {
            let class = if narrow { "x" } else { "x spare" };
            if wide {
                _ = write!(
                    html,
                    "<span class=\"{class}\" style=\"left:{}%\">{}</span>",
                    percent(*place),
                    escape(label)
                );
            }
        }
        for (place, label) in &self.y.1.ticks {
            _ = write!(html, "<span class=\"y\" style=\"bottom:{}%\">{}</span>", percent(*place), escape(label));
        }
        html
    }

    /// Values that a logarithmic axis cannot show.
    fn left_out(&self) -> String {
        let finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        let points = self.lines.iter().flat_map(|line| line.points.iter()).filter(finite);
        let count = points.filter(|(x, y)| self.x.1.at(*x).is_none() || self.y.1.at(*y).is_none()).count();
        match count {
            0 => String::new(),
            1 => "<p class=\"help\">One point is not drawn: it is at zero or below, or too large.</p>".to_owned(),
            count => {
                format!("<p class=\"help\">{count} points are not drawn: they are at zero or below, or too large.</p>")
            }
        }
    }
}

/// `label (unit)`.
fn axis_title(axis: &Axis) -> String {
    let unit = match format::unit_label(&axis.unit) {
        "" => String::new(),
        unit => format!(" ({})", escape(unit)),
    };
    let scale = if axis.scale == Scale::Log { ", logarithmic" } else { "" };
    escape(&axis.label) + &unit + scale
}

/// Which labels have room beside the one before, where an axis is this many letters long.
fn fitting(ticks: &[(f64, String)], letters: f64) -> Vec<bool> {
    let mut free = f64::NEG_INFINITY;
    let fits = |(place, label): &(f64, String)| {
        let (middle, half) = (place * letters, label.chars().count() as f64 / 2.0);
        let fits = middle - half >= free;
        if fits {
            free = middle + half + 0.9;
        }
        fits
    };
    ticks.iter().map(fits).collect()
}

fn percent(place: f64) -> String {
    format!("{}", (place * 10_000.0).round() / 100.0 + 0.0)
}
