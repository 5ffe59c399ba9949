use serde_json::Value;

use super::*;
use crate::example;
use crate::report::{Figure, Style};
use crate::slo::{Bound, Goals};

/// Every text and name of a value with this behind it, except those that are words of the schema.
fn spoiled(value: Value, bad: &str) -> Value {
    match value {
        Value::String(text) => (text + bad).into(),
        Value::Array(items) => items.into_iter().map(|item| spoiled(item, bad)).collect(),
        Value::Object(fields) => {
            let words = ["style", "scale", "outcome"];
            let field = |(name, value): (String, Value)| {
                let value = if words.contains(&name.as_str()) { value } else { spoiled(value, bad) };
                (name, value)
            };
            fields.into_iter().map(field).collect()
        }
        other => other,
    }
}

#[test]
fn everything_that_was_given_is_escaped() {
    let bad = "<script>\"'&";
    let mut report = example::report();
    report.setup.insert("name".to_owned(), "text".into());
    report.verdicts.push(Verdict { outcome: Outcome::Missed, ..report.verdicts[0].clone() });
    let mut report: Report = serde_json::from_value(spoiled(serde_json::to_value(&report).unwrap(), bad)).unwrap();
    report.setup.insert(bad.to_owned(), bad.into());
    let html = render(&report, Some(&Comparison::of(&example::report(), &report)));
    assert!(!html.contains("<script") && !html.contains("\"'") && !html.contains("'&"), "{html}");
    assert!(html.matches("&lt;script&gt;&quot;&#39;&amp;").count() >= 30, "{html}");
    assert_eq!(escape("a\u{7}b\nc"), "a b\nc");
}

#[test]
fn the_banner_says_whether_all_goals_held_or_which_did_not() {
    let report = example::report();
    assert_eq!(banner(&report.verdicts), "<p class=\"banner held\"><strong>The goal held.</strong></p>\n");
    assert!(banner(&[]).contains("No goal is set"));
    let goals =
        "goals:\n- {figure: converge.lookups, at_most: 10000, why: w}\n- {figure: converge.peak, at_most: 1, why: w}\n";
    let mut verdicts = report.verdicts.clone();
    verdicts.extend(Goals::parse(goals).unwrap().judge(&report));
    assert_eq!(
        banner(&verdicts),
        "<p class=\"banner missed\"><span><strong>1 of 3 goals missed:</strong> Lookups</span> \
         <span><strong>1 of 3 goals not measured:</strong> converge.peak</span> </p>\n"
    );
    verdicts.truncate(1);
    verdicts.push(verdicts[0].clone());
    assert!(banner(&verdicts).contains("All 2 goals held."));
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let html = render(&example::report(), None);
    for word in ["http:", "https:", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(word), "{word}");
    }
}

#[test]
fn nothing_on_the_page_is_not_a_number() {
    let mut report = example::report();
    report.seconds = f64::NAN;
    report.machine.memory_gib = f64::NAN;
    report.add_figure("converge.none", "None", f64::NAN, "s");
    report.plots[0].lines.push(example::line("none", Style::Dots, &[(f64::NAN, f64::NAN)]));
    report.latencies[0].max = f64::INFINITY;
    for bound in [Bound::AtMost(0.0), Bound::AtLeast(-1.0), Bound::AtMost(f64::NAN)] {
        let verdict = Verdict { bound, value: Some(0.0), ..report.verdicts[0].clone() };
        report.verdicts.push(verdict);
    }
    let mut old = example::report();
    old.add_figure("converge.none", "None", 0.0, "s");
    old.figures[0].value = -1.0;
    let html = render(&report, Some(&Comparison::of(&old, &report)));
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
}

#[test]
fn an_empty_report_is_a_page_without_empty_sections() {
    let html = render(&Report::new("empty", "2026-07-30T12:00:00Z", "0.1.0"), None);
    assert!(!html.contains("<h2>") && !html.contains("<table"), "{html}");
    assert!(html.contains("<h1>empty</h1>") && html.ends_with("</html>\n"), "{html}");
}

#[test]
fn figures_are_told_with_number_and_unit_in_columns() {
    let figure = |value, unit: &str| Figure { id: "s.f".into(), title: "F".into(), value, unit: unit.into() };
    let html = tables::figures(&[figure(94.2, "s"), figure(1.0, "count")]);
    assert!(html.contains("<td class=\"number\"><b>94.2</b></td><td class=\"unit\">s</td>"), "{html}");
    assert!(html.contains("<td class=\"number\"><b>1</b></td><td class=\"unit\"></td>"), "{html}");
}

#[test]
fn the_comparison_shows_the_change_as_a_bar_and_warns() {
    let mut old = example::report();
    old.figures[0].value = 188.4;
    old.setup.insert("replicas".to_owned(), 2.into());
    let html = render(&example::report(), Some(&Comparison::of(&old, &example::report())));
    assert!(html.contains("<i style=\"left:0.0%;width:50.0%\">") && html.contains("×0.500"), "{html}");
    assert!(html.contains("<strong>Careful:</strong> the runs differ in replicas: 2 → 1."), "{html}");
}
