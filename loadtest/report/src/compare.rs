//! One run beside an earlier one.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::format;
use crate::machine::Machine;
use crate::report::{Figure, Report};

/// What two runs have in common, and what changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The earlier run.
    pub old: Run,
    /// The run that is told.
    pub new: Run,
    /// What makes the two hard to compare: other than their results.
    pub warning: Option<String>,
    /// The figures of the new run, then those that only the old one has.
    pub rows: Vec<Row>,
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// When it started.
    pub started: String,
    /// Version of the program.
    pub version: String,
}

/// One figure of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Of the figure.
    pub id: String,
    /// Of the figure.
    pub title: String,
    /// Of the figure.
    pub unit: String,
    /// None where the old run has no such figure in this unit.
    pub old: Option<f64>,
    /// None where the new one has none.
    pub new: Option<f64>,
    /// New over old; none where there is none.
    pub ratio: Option<f64>,
}

impl Comparison {
    /// Compares two runs.
    pub fn of(old: &Report, new: &Report) -> Self {
        let run = |report: &Report| Run { started: report.started.clone(), version: report.version.clone() };
        let mut rows: Vec<Row> =
            new.figures.iter().map(|figure| Row::of(figure, twin(old, figure), Some(figure))).collect();
        let gone = old.figures.iter().filter(|figure| twin(new, figure).is_none());
        rows.extend(gone.map(|figure| Row::of(figure, Some(figure), None)));
        let differences = differences(old, new);
        let warning = (!differences.is_empty()).then(|| format!("the runs differ in {}", differences.join("; ")));
        Self { old: run(old), new: run(new), warning, rows }
    }
}

impl Row {
    fn of(figure: &Figure, old: Option<&Figure>, new: Option<&Figure>) -> Self {
        let value = |figure: Option<&Figure>| figure.map(|figure| figure.value).filter(|value| value.is_finite());
        let (old, new) = (value(old), value(new));
        let ratio = match (old, new) {
            (Some(old), Some(new)) if old == new => Some(1.0),
            // Of what is below zero nothing is a multiple.
            (Some(old), Some(new)) if old > 0.0 && new >= 0.0 => Some(new / old).filter(|ratio| ratio.is_finite()),
            _ => None,
        };
        Self { id: figure.id.clone(), title: figure.title.clone(), unit: figure.unit.clone(), old, new, ratio }
    }

    /// What stands in place of a ratio where there is none.
    pub fn remark(&self) -> &'static str {
        match (self.old, self.new) {
            (None, Some(_)) => "only new",
            (Some(_), None) => "only old",
            _ => format::NOTHING,
        }
    }
}

/// The same figure of another run: a value in another unit is another figure.
fn twin<'a>(report: &'a Report, figure: &Figure) -> Option<&'a Figure> {
    report.figure(&figure.id).filter(|other| other.unit == figure.unit)
}

fn differences(old: &Report, new: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            let or_nothing = |text: String| if text.is_empty() { format::NOTHING.to_owned() } else { text };
            found.push(format!("{what}: {} → {}", or_nothing(old), or_nothing(new)));
        }
    };
    compare("scenario", old.scenario.clone(), new.scenario.clone());
    let names: BTreeSet<&String> = old.setup.keys().chain(new.setup.keys()).collect();
    let setting = |value: Option<&Value>| value.map(format::setting).unwrap_or_default();
    for name in names {
        compare(name, setting(old.setup.get(name)), setting(new.setup.get(name)));
    }
    let (a, b) = (&old.machine, &new.machine);
    compare("cores", a.cores.to_string(), b.cores.to_string());
    let memory = |machine: &Machine| format::plain_with_unit(machine.memory_gib, "GiB");
    compare("memory", memory(a), memory(b));
    compare("CPU", a.cpu.clone(), b.cpu.clone());
    compare("kernel", a.kernel.clone(), b.kernel.clone());
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::example;

    fn row<'a>(comparison: &'a Comparison, id: &str) -> &'a Row {
        comparison.rows.iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn a_figure_of_both_runs_has_a_ratio_of_new_over_old() {
        let (old, mut new) = (example::report(), example::report());
        new.figures[0].value = 47.1;
        let comparison = Comparison::of(&old, &new);
        assert_eq!(row(&comparison, "converge.seconds").ratio, Some(0.5));
        assert_eq!(row(&comparison, "converge.lookups").ratio, Some(1.0));
        assert_eq!(comparison.warning, None);
    }

    #[test]
    fn a_figure_of_one_run_only_is_shown_as_such() {
        let (mut old, mut new) = (example::report(), example::report());
        old.add_figure("converge.gone", "Gone", 1.0, "s");
        new.add_figure("converge.fresh", "Fresh", 2.0, "s");
        let comparison = Comparison::of(&old, &new);
        let gone = row(&comparison, "converge.gone");
        assert_eq!((gone.old, gone.new, gone.ratio, gone.remark()), (Some(1.0), None, None, "only old"));
        let fresh = row(&comparison, "converge.fresh");
        assert_eq!((fresh.old, fresh.new, fresh.ratio, fresh.remark()), (None, Some(2.0), None, "only new"));
    }

    #[test]
    fn nothing_is_divided_by_zero_and_units_are_not_mixed() {
        let (mut old, mut new) = (example::report(), example::report());
        old.add_figure("converge.zero", "Zero", 0.0, "count");
        new.add_figure("converge.zero", "Zero", 3.0, "count");
        old.add_figure("converge.none", "None", 0.0, "count");
        new.add_figure("converge.none", "None", 0.0, "count");
        old.add_figure("converge.unit", "Unit", 1.0, "s");
        new.add_figure("converge.unit", "Unit", 1000.0, "ms");
        let comparison = Comparison::of(&old, &new);
        assert_eq!(
            (row(&comparison, "converge.zero").ratio, row(&comparison, "converge.none").ratio),
            (None, Some(1.0))
        );
        let units: Vec<_> = comparison.rows.iter().filter(|row| row.id == "converge.unit").collect();
        assert_eq!((units[0].new, units[0].old, units[1].new, units[1].old), (Some(1000.0), None, None, Some(1.0)));
    }

    #[test]
    fn a_warning_names_what_differs_between_the_runs() {
        let (old, mut new) = (example::report(), example::report());
        new.scenario = "steady".to_owned();
        new.setup.insert("policies".to_owned(), json!(2000));
        new.setup.insert("seed".to_owned(), json!("b"));
        new.machine.cores = 8;
        assert_eq!(
            Comparison::of(&old, &new).warning.unwrap(),
            "the runs differ in scenario: converge → steady; policies: 10,000 → 2,000; seed: – → b; cores: 2 → 8"
        );
    }

    #[test]
    fn another_version_is_what_is_compared_and_no_reason_to_warn() {
        let (old, mut new) = (example::report(), example::report());
        new.version = "0.2.0".to_owned();
        assert_eq!(Comparison::of(&old, &new).warning, None);
    }
}
