use serde_json::json;

use super::*;
use crate::example;

#[test]
fn a_report_is_read_as_it_was_written() {
    let report = example::report();
    assert_eq!(Report::from_json(&report.to_json().unwrap()).unwrap(), report);
}

#[test]
fn scripts_find_the_names_that_the_manual_tells() {
    let value = serde_json::to_value(example::report()).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(
        value["figures"][0],
        json!({"id": "converge.seconds", "title": "Time to converge", "value": 94.2, "unit": "s"})
    );
    assert_eq!(value["plots"][0]["y"]["scale"], "linear");
    assert_eq!(value["plots"][0]["lines"][1]["style"], "dashed");
    assert_eq!(value["plots"][0]["lines"][1]["points"], json!([[0.0, 0.0], [80.0, 10_000.0]]));
    assert_eq!(value["verdicts"][0]["bound"], json!({"at_most": 120.0}));
    assert_eq!(value["verdicts"][0]["outcome"], "held");
}

#[test]
fn an_older_report_without_optional_fields_still_loads() {
    let report = Report::from_json(
        r#"{"schema": 1, "scenario": "converge", "started": "2026-07-30T12:00:00Z",
            "plots": [{"id": "converge.p", "title": "P", "x": {"label": "x"}, "y": {"label": "y"},
                       "lines": [{"name": "l", "points": [[1, 2]]}]}],
            "aFieldOfTomorrow": true}"#,
    )
    .unwrap();
    assert_eq!((report.machine, report.figures.len()), (Machine::default(), 0));
    assert_eq!(report.plots[0].x.scale, Scale::Linear);
    assert_eq!(report.plots[0].lines[0].style, Style::Line);
}

#[test]
fn what_could_not_be_measured_is_null_and_nan_again() {
    let mut report = example::report();
    report.add_figure("converge.lost", "Lost", f64::NAN, "s");
    report.plots[0].lines[0].points.push((f64::NAN, f64::INFINITY));
    let text = report.to_json().unwrap();
    assert!(!text.contains("NaN"), "{text}");
    let read = Report::from_json(&text).unwrap();
    assert!(read.figure("converge.lost").unwrap().value.is_nan());
    assert!(read.plots[0].lines[0].points.last().unwrap().1.is_nan());
}

#[test]
fn a_report_of_a_later_program_and_a_text_that_is_no_report_are_errors() {
    let told = |text: &str| format!("{:#}", Report::from_json(text).unwrap_err());
    assert_eq!(told(r#"{"schema": 2}"#), "reading a report: schema 2 is later than 1");
    assert_eq!(told("{}"), "reading a report: it has no schema");
    assert_eq!(told(r#"{"schema": 1}"#), "reading a report: missing field `scenario`");
}
