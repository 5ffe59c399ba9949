//! Parts of plots.

use loadtest_report::{Axis, Line, Plot, Scale, Style};

/// An axis that spreads its values evenly.
#[must_use]
pub fn axis(label: &str, unit: &str) -> Axis {
    Axis { label: label.to_owned(), unit: unit.to_owned(), scale: Scale::Linear }
}

/// A line of a plot.
#[must_use]
pub fn line(name: &str, points: Vec<(f64, f64)>, style: Style) -> Line {
    Line { name: name.to_owned(), points, style }
}

/// A plot; its id is `SCENARIO.NAME`.
#[must_use]
pub fn plot(id: &str, title: &str, x: Axis, y: Axis, lines: Vec<Line>) -> Plot {
    Plot { id: id.to_owned(), title: title.to_owned(), x, y, lines, help: String::new() }
}
