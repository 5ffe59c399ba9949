//! The table of all runs, and the ways to what was found.

use std::fmt;

use crate::run::{Run, Verdict};

/// The titles of the columns. The rows follow as the runs end.
pub fn head() -> String {
    let titles = row("configuration", "bounds", ["states", "unique", "depth", "seconds"].map(str::to_owned), "verdict");
    let rule = "-".repeat(titles.len() + 3);
    format!("{titles}\n{rule}")
}

fn row(name: &str, bounds: &str, [states, unique, depth, seconds]: [String; 4], verdict: &str) -> String {
    format!("{name:<25} {bounds:<57} {states:>11} {unique:>10} {depth:>5} {seconds:>7}  {verdict}")
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = format!("{:.1}", self.seconds);
        let figures = [self.steps.to_string(), self.states.to_string(), self.depth.to_string(), seconds];
        f.write_str(&row(&self.name, &self.bounds, figures, &self.verdict.to_string()))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Violated => "VIOLATED",
            Self::Caught => "caught",
            Self::Missed => "NOT CAUGHT",
            Self::Unfinished => "UNFINISHED",
        })
    }
}

/// How a run found what it found.
pub fn story(run: &Run) -> String {
    let lines: Vec<String> = run.trace.iter().map(|line| format!("    {line}")).collect();
    format!("{} ({}), {} steps:\n{}", run.name, run.verdict, run.trace.len().saturating_sub(1), lines.join("\n"))
}
