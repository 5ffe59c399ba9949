//! The report of one run, and its JSON.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::machine::Machine;
use crate::slo::Verdict;

/// The form of the JSON that this program writes.
pub const SCHEMA: u32 = 1;

/// What one run of a scenario measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Form of the JSON: [`SCHEMA`].
    pub schema: u32,
    /// Name of the scenario; its figures have ids that begin with it and a dot.
    pub scenario: String,
    /// When the run started (RFC 3339).
    pub started: String,
    /// How long it took.
    #[serde(default, deserialize_with = "number")]
    pub seconds: f64,
    /// Version of the program that was measured.
    #[serde(default)]
    pub version: String,
    /// Where it ran.
    #[serde(default)]
    pub machine: Machine,
    /// Parameters of the run, such as the number of policies.
    #[serde(default)]
    pub setup: BTreeMap<String, Value>,
    /// Single numbers.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// Numbers over something.
    #[serde(default)]
    pub plots: Vec<Plot>,
    /// Distributions of durations.
    #[serde(default)]
    pub latencies: Vec<Latency>,
    /// What a reader has to know beside the numbers.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Which goals held.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `SCENARIO.NAME`.
    pub id: String,
    /// For people.
    pub title: String,
    /// NaN where it could not be measured; null in JSON.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// `s`, `ms`, `count`, `ratio`, `MiB`, `KiB`, `1/s`, `%`, or any other.
    pub unit: String,
}

/// Lines over two axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// `SCENARIO.NAME`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// How to read it.
    #[serde(default)]
    pub help: String,
}

/// One direction of a plot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What it counts.
    pub label: String,
    /// As of a figure.
    #[serde(default)]
    pub unit: String,
    /// How values are spread over it.
    #[serde(default)]
    pub scale: Scale,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By magnitude; values of zero and below have no place.
    Log,
}

/// One series of a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// x and y, in the order in which they are joined; a point with NaN (null in JSON) is a gap.
    #[serde(deserialize_with = "points")]
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    #[serde(default)]
    pub style: Style,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Joined points.
    #[default]
    Line,
    /// Points alone.
    Dots,
    /// A reference that was not measured, such as a ceiling.
    Dashed,
}

/// The distribution of a duration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// `SCENARIO.NAME`.
    pub id: String,
    /// For people.
    pub title: String,
    /// How many were measured.
    pub count: u64,
    /// Quantile (0.99 for p99), and milliseconds.
    #[serde(deserialize_with = "points")]
    pub quantiles: Vec<(f64, f64)>,
    /// The longest, in milliseconds.
    #[serde(deserialize_with = "number")]
    pub max: f64,
}

impl Report {
    /// A report of this machine, without anything measured yet.
    pub fn new(scenario: &str, started: &str, version: &str) -> Self {
        Self {
            schema: SCHEMA,
            scenario: scenario.to_owned(),
            started: started.to_owned(),
            seconds: 0.0,
            version: version.to_owned(),
            machine: Machine::read(),
            setup: BTreeMap::new(),
            figures: Vec::new(),
            plots: Vec::new(),
            latencies: Vec::new(),
            notes: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Reads what [`Report::to_json`] wrote, also an earlier version of it.
    ///
    /// # Errors
    /// When it is no report, or one of a later program.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("reading a report")?;
        let schema = value.get("schema").and_then(Value::as_u64).context("reading a report: it has no schema")?;
        ensure!(schema <= u64::from(SCHEMA), "reading a report: schema {schema} is later than {SCHEMA}");
        serde_json::from_value(value).context("reading a report")
    }

    /// The JSON, indented, with a line end.
    ///
    /// # Errors
    /// Never for a report.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Adds a figure.
    pub fn add_figure(&mut self, id: &str, title: &str, value: f64, unit: &str) {
        self.figures.push(Figure { id: id.to_owned(), title: title.to_owned(), value, unit: unit.to_owned() });
    }

    /// The figure of that id.
    pub fn figure(&self, id: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.id == id)
    }
}

impl Line {
    /// Whether it was not measured.
    pub(crate) fn is_reference(&self) -> bool {
        self.style == Style::Dashed
    }
}

/// JSON has no NaN: it is written as null.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn points<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(f64, f64)>, D::Error> {
    let points = Vec::<(Option<f64>, Option<f64>)>::deserialize(from)?;
    Ok(points.into_iter().map(|(x, y)| (x.unwrap_or(f64::NAN), y.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests;
