//! Goals for the figures of a scenario, and whether a run held them.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::format;
use crate::report::Report;

/// Goals, of any number of scenarios.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Goals {
    /// In the order of the file.
    pub goals: Vec<Goal>,
}

/// What a figure has to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Id of the figure.
    pub figure: String,
    /// How much it may be.
    pub bound: Bound,
    /// The goal is for runs whose setup has these values.
    pub when: BTreeMap<String, Value>,
    /// Why it matters.
    pub why: String,
}

/// How much a figure may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// What became of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The figure is within the bound.
    Held,
    /// It is not.
    Missed,
    /// The run has no such figure: a failure.
    NotMeasured,
}

/// A goal, and what the run made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Id of the figure.
    pub figure: String,
    /// Title of the figure; its id where it was not measured.
    pub title: String,
    /// None where it was not measured.
    pub value: Option<f64>,
    /// Of the figure; empty where it was not measured.
    pub unit: String,
    /// What it was held against.
    pub bound: Bound,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it matters.
    #[serde(default)]
    pub why: String,
}

/// Whether no goal failed.
pub fn all_held(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| verdict.outcome == Outcome::Held)
}

impl Goals {
    /// Parses the YAML of the goals.
    ///
    /// # Errors
    /// When it is not of that form; tells the line.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| anyhow!("goals: {}", describe(&error)))?;
        let goals = file.goals.into_iter().map(|goal| {
            let line = goal.referenced.line();
            Goal::new(goal.value).map_err(|error| anyhow!("goals: line {line}: {error}"))
        });
        Ok(Self { goals: goals.collect::<Result<_>>()? })
    }

    /// The verdicts on a run: of the goals for its scenario and its setup, no others.
    pub fn judge(&self, report: &Report) -> Vec<Verdict> {
        self.goals.iter().filter(|goal| goal.applies_to(report)).map(|goal| goal.judge(report)).collect()
    }
}

impl Goal {
    fn new(entry: Entry) -> Result<Self> {
        let Entry { figure, at_most, at_least, when, why } = entry;
        ensure!(
            figure.split_once('.').is_some_and(|(scenario, name)| !scenario.is_empty() && !name.is_empty()),
            "figure {figure:?} is not of the form SCENARIO.NAME"
        );
        let bound = match (at_most, at_least) {
            (Some(most), None) => Bound::AtMost(most),
            (None, Some(least)) => Bound::AtLeast(least),
            (None, None) => bail!("{figure} has neither at_most nor at_least"),
            (Some(_), Some(_)) => bail!("{figure} has both at_most and at_least: make it two goals"),
        };
        ensure!(bound.number().is_finite(), "the bound of {figure} is not a number");
        ensure!(!why.trim().is_empty(), "{figure} does not say why");
        if let Some((name, _)) = when.iter().find(|(_, value)| value.is_array() || value.is_object()) {
            bail!("when of {figure}: {name} is not a single value");
        }
        Ok(Self { figure, bound, when, why: why.trim().to_owned() })
    }

    fn applies_to(&self, report: &Report) -> bool {
        let of_scenario = self.figure.split_once('.').is_some_and(|(scenario, _)| scenario == report.scenario);
        of_scenario && self.when.iter().all(|(name, value)| report.setup.get(name).is_some_and(|is| same(is, value)))
    }

    fn judge(&self, report: &Report) -> Verdict {
        let figure = report.figure(&self.figure);
        let value = figure.map(|figure| figure.value).filter(|value| value.is_finite());
        let outcome = match value {
            None => Outcome::NotMeasured,
            Some(value) if self.bound.holds(value) => Outcome::Held,
            Some(_) => Outcome::Missed,
        };
        Verdict {
            figure: self.figure.clone(),
            title: figure.map_or(&self.figure, |figure| &figure.title).clone(),
            value,
            unit: figure.map(|figure| figure.unit.clone()).unwrap_or_default(),
            bound: self.bound,
            outcome,
            why: self.why.clone(),
        }
    }
}

impl Bound {
    /// Its number.
    pub fn number(self) -> f64 {
        let (Self::AtMost(number) | Self::AtLeast(number)) = self;
        number
    }

    /// Whether a value is within it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    /// `at most 1.2 s`.
    pub fn text(self, unit: &str) -> String {
        let words = if matches!(self, Self::AtMost(_)) { "at most" } else { "at least" };
        format!("{words} {}", format::plain_with_unit(self.number(), unit))
    }
}

impl Outcome {
    /// For people; a failure stands out.
    pub fn text(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

impl Verdict {
    /// The value with its unit.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| format::NOTHING.to_owned(), |value| format::with_unit(value, &self.unit))
    }
}

/// The YAML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    goals: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    figure: String,
    at_most: Option<f64>,
    at_least: Option<f64>,
    #[serde(default)]
    when: BTreeMap<String, Value>,
    why: String,
}

/// 10000 and 10000.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// Without the drawing of the place that follows the first line.
fn describe(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.lines().next().unwrap_or_default();
    match error.location() {
        Some(at) if !text.contains("line ") => format!("line {}: {text}", at.line()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
