//! A report as one page that needs nothing else: no network, no fonts, no scripts.

mod tables;

use std::fmt::Write as _;

use crate::compare::Comparison;
use crate::format;
use crate::plot;
use crate::report::Report;
use crate::slo::{Outcome, Verdict, all_held};

const STYLE: &str = include_str!("html/style.css");

/// The page.
pub fn render(report: &Report, comparison: Option<&Comparison>) -> String {
    let title = format!("{} – load test of {}", report.scenario, format::moment(&report.started));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(&title)
    );
    html.push_str(&header(report));
    html.push_str(&banner(&report.verdicts));
    html.push_str(&section("Goals", &tables::goals(&report.verdicts)));
    html.push_str(&section("Figures", &tables::figures(&report.figures)));
    html.push_str(&section("Plots", &grid(report.plots.iter().map(plot::plot))));
    html.push_str(&section("Latencies", &grid(report.latencies.iter().map(plot::latency))));
    if let Some(comparison) = comparison {
        html.push_str(&section("Compared with an earlier run", &tables::comparison(comparison)));
    }
    let notes: String = report.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    html.push_str(&section("Notes", &around("ul", "notes", &notes)));
    html + "</main>\n</body>\n</html>\n"
}

/// A text as it stands in HTML, also within quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter if letter.is_control() && letter != '\n' => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn header(report: &Report) -> String {
    let facts = [
        ("Started", format::moment(&report.started)),
        ("Took", format::duration(report.seconds)),
        ("Version", report.version.clone()),
        ("Machine", report.machine.to_string()),
    ];
    let fact = |(name, value): &(&str, String)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    let facts: String = facts.iter().filter(|(_, value)| !value.is_empty()).map(fact).collect();
    let mut html = format!(
        "<header>\n<p class=\"kind\">Load test</p>\n<h1>{}</h1>\n<dl class=\"facts\">{facts}</dl>\n",
        escape(&report.scenario)
    );
    let setup = report.setup.iter().map(|(name, value)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&format::setting(value)))
    });
    html.push_str(&around("dl", "setup", &setup.collect::<String>()));
    html + "</header>\n"
}

/// The verdicts in one sentence.
fn banner(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return "<p class=\"banner\">No goal is set for this scenario with this setup.</p>\n".to_owned();
    }
    if all_held(verdicts) {
        let sentence = match verdicts.len() {
            1 => "The goal held.".to_owned(),
            count => format!("All {count} goals held."),
        };
        return format!("<p class=\"banner held\"><strong>{sentence}</strong></p>\n");
    }
    let of = |outcome: Outcome| {
        let of_it = verdicts.iter().filter(|verdict| verdict.outcome == outcome);
        of_it.map(|verdict| escape(&verdict.title)).collect::<Vec<_>>()
    };
    let mut html = String::from("<p class=\"banner missed\">");
    for (outcome, words) in [(Outcome::Missed, "missed"), (Outcome::NotMeasured, "not measured")] {
        let titles = of(outcome);
        if !titles.is_empty() {
            let (failed, all) = (titles.len(), verdicts.len());
            let goals = if all == 1 { "goal" } else { "goals" };
            _ = write!(html, "<span><strong>{failed} of {all} {goals} {words}:</strong> {}</span> ", titles.join(", "));
        }
    }
    html + "</p>\n"
}

/// Nothing where there is nothing to show.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<section>\n<h2>{title}</h2>\n{content}</section>\n") }
}

fn grid(figures: impl Iterator<Item = String>) -> String {
    around("div", "plots", &figures.collect::<String>())
}

fn around(element: &str, class: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<{element} class=\"{class}\">\n{content}</{element}>\n") }
}

#[cfg(test)]
mod tests;
