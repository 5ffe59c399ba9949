//! A small report for tests.

use serde_json::json;

use crate::machine::Machine;
use crate::report::{Axis, Latency, Line, Plot, Report, SCHEMA, Scale, Style};
use crate::slo::{Bound, Outcome, Verdict};

pub(crate) fn axis(label: &str, unit: &str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), unit: unit.to_owned(), scale }
}

pub(crate) fn line(name: &str, style: Style, points: &[(f64, f64)]) -> Line {
    Line { name: name.to_owned(), points: points.to_vec(), style }
}

/// Held and complete; all of its text is without characters that HTML escapes.
pub(crate) fn report() -> Report {
    let mut report = Report {
        machine: Machine { cores: 2, memory_gib: 23.5, cpu: "AMD EPYC".into(), kernel: "6.18.44".into() },
        seconds: 131.0,
        ..Report::new("converge", "2026-07-30T12:00:00Z", "0.1.0")
    };
    assert_eq!(report.schema, SCHEMA);
    report.setup = [("policies".to_owned(), json!(10_000)), ("replicas".to_owned(), json!(1))].into();
    report.add_figure("converge.seconds", "Time to converge", 94.2, "s");
    report.add_figure("converge.lookups", "Lookups", 12_345.0, "count");
    report.plots.push(Plot {
        id: "converge.progress".to_owned(),
        title: "Progress".to_owned(),
        x: axis("time", "s", Scale::Linear),
        y: axis("policies written", "count", Scale::Linear),
        lines: vec![
            line("written", Style::Line, &[(0.0, 0.0), (50.0, 6000.0), (94.2, 10_000.0)]),
            line("ceiling", Style::Dashed, &[(0.0, 0.0), (80.0, 10_000.0)]),
        ],
        help: "How far it came.".to_owned(),
    });
    report.latencies.push(Latency {
        id: "converge.write".to_owned(),
        title: "Write".to_owned(),
        count: 10_000,
        quantiles: vec![(0.0, 1.0), (0.5, 2.0), (0.9, 4.0), (0.99, 11.0), (0.999, 40.0)],
        max: 71.5,
    });
    report.notes.push("One node.".to_owned());
    report.verdicts.push(Verdict {
        figure: "converge.seconds".to_owned(),
        title: "Time to converge".to_owned(),
        value: Some(94.2),
        unit: "s".to_owned(),
        bound: Bound::AtMost(120.0),
        outcome: Outcome::Held,
        why: "A restart must be over within two minutes.".to_owned(),
    });
    report
}
