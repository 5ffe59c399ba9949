//! The tables of the page.

use std::fmt::Write as _;

use super::{around, escape};
use crate::compare::{Comparison, Row};
use crate::format;
use crate::report::Figure;
use crate::slo::{Outcome, Verdict};

/// How much of the bar is on the good side of a bound at most.
const BOUND_AT: f64 = 2.0 / 3.0;
/// Figures that stand below each other at any width.
const ONE_COLUMN: usize = 5;

/// Each goal with its outcome.
pub(super) fn goals(verdicts: &[Verdict]) -> String {
    let rows: String = verdicts.iter().map(goal).collect();
    table("goals", &["Outcome", "Goal", "Measured", "Bound", "Against the bound"], &rows)
}

fn goal(verdict: &Verdict) -> String {
    let (class, sign) = match verdict.outcome {
        Outcome::Held => ("held", "✓"),
        Outcome::Missed => ("missed", "✗"),
        Outcome::NotMeasured => ("missed", "?"),
    };
    let bar = verdict.value.map(|value| bar(value, verdict.bound.number(), class)).unwrap_or_default();
    format!(
        "<tr><td class=\"outcome {class}\"><span aria-hidden=\"true\">{sign}</span> {}</td>\
         <td class=\"goal\">{}<small>{}</small></td><td class=\"number\"><b>{}</b></td><td class=\"bound\">{}</td>\
         <td class=\"against\">{bar}</td></tr>\n",
        verdict.outcome.text(),
        escape(&verdict.title),
        escape(&verdict.why),
        escape(&verdict.value_text()),
        escape(&verdict.bound.text(&verdict.unit)),
    )
}

/// How close a value is to its bound.
fn bar(value: f64, bound: f64, class: &str) -> String {
    let share = value / bound;
    if !share.is_finite() || share < 0.0 || bound <= 0.0 {
        return String::new();
    }
    let width = (share * BOUND_AT).min(1.0) * 100.0;
    format!(
        "<span class=\"bar\" title=\"{} of the bound\"><i class=\"{class}\" style=\"width:{width:.1}%\"></i></span>",
        escape(&format::with_unit(share * 100.0, "%"))
    )
}

/// Each figure; many of them in two columns, where there is room.
pub(super) fn figures(figures: &[Figure]) -> String {
    let half = if figures.len() > ONE_COLUMN { figures.len().div_ceil(2) } else { figures.len() };
    let columns = figures.chunks(half.max(1)).map(|figures| {
        let rows: String = figures.iter().map(figure).collect();
        table("figures", &["Figure", "Value", ""], &rows)
    });
    around("div", "columns", &columns.collect::<String>())
}

fn figure(figure: &Figure) -> String {
    format!(
        "<tr><td>{}<small><code>{}</code></small></td><td class=\"number\"><b>{}</b></td>\
         <td class=\"unit\">{}</td></tr>\n",
        escape(&figure.title),
        escape(&figure.id),
        escape(&format::number(figure.value, &figure.unit)),
        escape(format::unit_label(&figure.unit)),
    )
}

/// Each figure beside that of the earlier run.
pub(super) fn comparison(comparison: &Comparison) -> String {
    let mut html = String::new();
    if let Some(warning) = &comparison.warning {
        _ = writeln!(html, "<p class=\"banner warning\"><strong>Careful:</strong> {}.</p>", escape(warning));
    }
    let (old, new) = (&comparison.old, &comparison.new);
    _ = writeln!(
        html,
        "<p class=\"help\">Old is version {} of {}, new is version {} of {}.</p>",
        escape(&old.version),
        escape(&format::moment(&old.started)),
        escape(&new.version),
        escape(&format::moment(&new.started)),
    );
    let rows: String = comparison.rows.iter().map(row).collect();
    html + &table("comparison", &["Figure", "Old", "New", "New/old", "half to twice"], &rows)
}

fn row(row: &Row) -> String {
    let value = |value: Option<f64>| {
        value.map_or_else(|| format::NOTHING.to_owned(), |value| format::with_unit(value, &row.unit))
    };
    let (ratio, change) = match row.ratio {
        Some(ratio) => (format!("<b>{}</b>", escape(&format::times(ratio))), change(ratio)),
        None => (format!("<i>{}</i>", row.remark()), String::new()),
    };
    format!(
        "<tr><td>{}<small><code>{}</code></small></td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{ratio}</td><td class=\"change\">{change}</td></tr>\n",
        escape(&row.title),
        escape(&row.id),
        escape(&value(row.old)),
        escape(&value(row.new)),
    )
}

/// A bar to the left for less, to the right for more; its ends are half and twice.
fn change(ratio: f64) -> String {
    if ratio <= 0.0 {
        return String::new();
    }
    let doublings = ratio.log2().clamp(-1.0, 1.0);
    let (left, width) = (50.0 + doublings.min(0.0) * 50.0, doublings.abs() * 50.0);
    format!("<span class=\"shift\"><i style=\"left:{left:.1}%;width:{width:.1}%\"></i></span>")
}

fn table(class: &str, heads: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    let table =
        format!("<table class=\"{class}\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n");
    around("div", "scroll", &table)
}
