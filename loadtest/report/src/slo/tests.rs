use serde_json::json;

use super::*;
use crate::example;

const GOAL: &str = "
goals:
  - figure: converge.seconds
    at_most: 120
    when: {policies: 10000.0}
    why: A restart must be over within two minutes.
";

#[track_caller]
fn fails(text: &str, expected: &str) {
    assert_eq!(Goals::parse(text).unwrap_err().to_string(), expected, "{text}");
}

/// The outcomes of a goal with these lines.
fn outcomes(figure: &str, rest: &str) -> Vec<Outcome> {
    let goals = Goals::parse(&format!("goals:\n- figure: {figure}\n  {rest}\n  why: It matters.\n")).unwrap();
    goals.judge(&example::report()).iter().map(|verdict| verdict.outcome).collect()
}

#[test]
fn a_goal_is_parsed_with_its_bound_and_its_condition() {
    let goals = Goals::parse(GOAL).unwrap().goals;
    assert_eq!(goals.len(), 1);
    assert_eq!((goals[0].figure.as_str(), goals[0].bound), ("converge.seconds", Bound::AtMost(120.0)));
    assert_eq!(goals[0].when, [("policies".to_owned(), json!(10_000.0))].into());
    assert_eq!(goals[0].why, "A restart must be over within two minutes.");
    assert_eq!(Goals::parse("goals: []").unwrap(), Goals::default());
}

#[test]
fn an_error_says_what_is_wrong_and_in_which_line() {
    let with = |from: &str, to: &str| GOAL.replace(from, to);
    fails(&with("    at_most: 120\n", ""), "goals: line 3: converge.seconds has neither at_most nor at_least");
    fails(
        &with("at_most: 120", "at_most: 120\n    at_least: 1"),
        "goals: line 3: converge.seconds has both at_most and at_least: make it two goals",
    );
    fails(&with("converge.seconds", "seconds"), "goals: line 3: figure \"seconds\" is not of the form SCENARIO.NAME");
    fails(&with("at_most: 120", "at_most: .nan"), "goals: line 3: the bound of converge.seconds is not a number");
    fails(
        &with("A restart must be over within two minutes.", "''"),
        "goals: line 3: converge.seconds does not say why",
    );
    fails(
        &with("{policies: 10000.0}", "{policies: [1, 2]}"),
        "goals: line 3: when of converge.seconds: policies is not a single value",
    );
}

#[test]
fn a_text_of_another_form_is_told_with_its_line() {
    let told = |text: &str| Goals::parse(text).unwrap_err().to_string();
    let unknown = told(&GOAL.replace("at_most", "at_moist"));
    assert!(unknown.contains("line 4") && unknown.contains("at_moist") && unknown.contains("at_most"), "{unknown}");
    let text = told(&GOAL.replace("120", "soon"));
    assert!(text.contains("line 4"), "{text}");
    let missing = told(&GOAL.replace("    why: A restart must be over within two minutes.\n", ""));
    assert!(missing.contains("why") && missing.contains("line "), "{missing}");
    let unknown = told("goal: []");
    assert!(unknown.contains("line 1") && unknown.contains("goal"), "{unknown}");
    assert!(told("goals: [").contains("line 1"), "{}", told("goals: ["));
}

#[test]
fn a_figure_within_its_bound_is_held_and_one_beyond_it_missed() {
    assert_eq!(outcomes("converge.seconds", "at_most: 94.2"), [Outcome::Held]);
    assert_eq!(outcomes("converge.seconds", "at_most: 94.1"), [Outcome::Missed]);
    assert_eq!(outcomes("converge.seconds", "at_least: 94.2"), [Outcome::Held]);
    assert_eq!(outcomes("converge.seconds", "at_least: 94.3"), [Outcome::Missed]);
}

#[test]
fn a_figure_that_is_absent_or_no_number_was_not_measured_and_that_is_a_failure() {
    assert_eq!(outcomes("converge.unheard", "at_most: 1"), [Outcome::NotMeasured]);
    let mut report = example::report();
    report.figures[0].value = f64::NAN;
    let verdicts = Goals::parse(GOAL).unwrap().judge(&report);
    assert_eq!((verdicts[0].outcome, verdicts[0].value), (Outcome::NotMeasured, None));
    assert!(!all_held(&verdicts));
}

#[test]
fn a_goal_of_another_scenario_or_another_setup_does_not_apply() {
    assert_eq!(outcomes("steady.seconds", "at_most: 1"), []);
    assert_eq!(outcomes("converge2.seconds", "at_most: 1"), []);
    assert_eq!(outcomes("converge.seconds", "at_most: 1\n  when: {replicas: 4}"), []);
}

#[test]
fn a_condition_holds_for_exactly_the_values_of_the_setup() {
    let with = |when: &str| outcomes("converge.seconds", &format!("at_most: 120\n  when: {when}")).len();
    assert_eq!(with("{policies: 10000}"), 1);
    assert_eq!(with("{policies: 10000.0, replicas: 1}"), 1);
    assert_eq!(with("{policies: 10001}"), 0);
    assert_eq!(with("{policies: 10000, replicas: 4}"), 0);
    assert_eq!(with("{policies: '10000'}"), 0);
    assert_eq!(with("{unheard: 1}"), 0);
}

#[test]
fn a_verdict_tells_the_figure_and_the_bound() {
    let verdict = Goals::parse(GOAL).unwrap().judge(&example::report()).remove(0);
    assert_eq!((verdict.title.as_str(), verdict.value_text().as_str()), ("Time to converge", "94.2 s"));
    assert_eq!(verdict.bound.text(&verdict.unit), "at most 120 s");
    assert!(all_held(&[verdict]) && all_held(&[]));
}
