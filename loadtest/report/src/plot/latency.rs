//! A distribution: latency over quantiles.

use super::chart::Chart;
use super::ruler::{Fit, Ruler};
use crate::format;
use crate::html::escape;
use crate::report::{Axis, Latency, Line, Scale, Style};

/// The figure of a distribution: latency over quantiles, which stand by their nines.
pub(crate) fn latency(latency: &Latency) -> String {
    let points: Vec<(f64, f64)> = latency.quantiles.iter().copied().filter(|(q, _)| (0.0..1.0).contains(q)).collect();
    let highest = points.iter().fold(0.0, |highest: f64, (q, _)| highest.max(*q));
    let values = || points.iter().map(|(_, value)| *value).chain([latency.max]).filter(|value| value.is_finite());
    let (low, high) = values().fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let scale = if low > 0.0 && high > 20.0 * low { Scale::Log } else { Scale::Linear };
    let across = Axis { label: "percentile".to_owned(), unit: "%".to_owned(), scale: Scale::Linear };
    let up = Axis { label: "latency".to_owned(), unit: "ms".to_owned(), scale };
    let (x, y) = (Ruler::nines(highest), Ruler::of(scale, Fit::Round, values()));
    let line = |name: &str, points, style| Line { name: name.to_owned(), points, style };
    let of_all = if highest > 0.0 { vec![(0.0, latency.max), (highest, latency.max)] } else { Vec::new() };
    let lines = [line("quantiles", points.clone(), Style::Line), line("max", of_all, Style::Dashed)];
    let chart = Chart { id: &latency.id, title: &latency.title, help: "", x: (&across, x), y: (&up, y), lines: &lines };
    let mut numbers = vec![("count".to_owned(), format::plain(latency.count as f64))];
    let in_ms = |value: f64| format::with_unit(value, "ms");
    numbers.extend(points.iter().map(|(q, value)| (quantile(*q), in_ms(*value))));
    numbers.push(("max".to_owned(), in_ms(latency.max)));
    let numbers: String = numbers
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value)))
        .collect();
    chart.render(&format!("<dl class=\"numbers\">{numbers}</dl>"))
}

/// `p99.9`.
pub(super) fn quantile(q: f64) -> String {
    if q == 0.0 { "min".to_owned() } else { format!("p{}", format::plain((q * 1e11).round() / 1e9)) }
}
