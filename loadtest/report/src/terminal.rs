//! A report for the terminal, without colours and at most 100 columns wide.

use crate::compare::Comparison;
use crate::format;
use crate::report::Report;
use crate::slo::{Outcome, Verdict};

/// Columns of the terminal.
const WIDTH: usize = 100;
/// Between two cells.
const GAP: &str = "  ";

/// The figures, the verdicts and the comparison.
pub fn render(report: &Report, comparison: Option<&Comparison>) -> String {
    let mut text = head(report);
    if !report.figures.is_empty() {
        let rows = report.figures.iter().map(|figure| {
            let number = format::number(figure.value, &figure.unit);
            [figure.title.clone(), figure.id.clone(), number, format::unit_label(&figure.unit).to_owned()]
        });
        text.push('\n');
        text.push_str(&table(["FIGURE", "ID", "VALUE", ""], [false, false, true, false], rows));
    }
    if !report.verdicts.is_empty() {
        text.push('\n');
        text.push_str(&goals(&report.verdicts));
    }
    if let Some(comparison) = comparison {
        text.push('\n');
        text.push_str(&compared(comparison));
    }
    for note in &report.notes {
        text.push('\n');
        text.push_str(&wrapped("note: ", note));
    }
    text
}

fn head(report: &Report) -> String {
    let mut lines = vec![
        ("scenario", report.scenario.clone()),
        ("started", format!("{}, took {}", format::moment(&report.started), format::duration(report.seconds))),
        ("version", report.version.clone()),
        ("machine", report.machine.to_string()),
    ];
    let setup = report.setup.iter().map(|(name, value)| format!("{name} {}", format::setting(value)));
    lines.push(("setup", setup.collect::<Vec<_>>().join(", ")));
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| wrapped(&format!("{name:10}"), value)).collect()
}

fn goals(verdicts: &[Verdict]) -> String {
    let rows = verdicts.iter().map(|verdict| {
        let bound = verdict.bound.text(&verdict.unit);
        [verdict.outcome.text().to_owned(), verdict.title.clone(), verdict.value_text(), bound]
    });
    let mut text = table(["GOAL", "FIGURE", "VALUE", "BOUND"], [false, false, true, false], rows);
    for verdict in verdicts.iter().filter(|verdict| verdict.outcome != Outcome::Held) {
        text.push_str(&wrapped(
            &format!("{}: ", verdict.outcome.text()),
            &format!("{}. {}", verdict.title, verdict.why),
        ));
    }
    text
}

fn compared(comparison: &Comparison) -> String {
    let value = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| format::NOTHING.to_owned(), |value| format::with_unit(value, unit))
    };
    let rows = comparison.rows.iter().map(|row| {
        let ratio = row.ratio.map_or_else(|| row.remark().to_owned(), format::times);
        [row.title.clone(), value(row.old, &row.unit), value(row.new, &row.unit), ratio]
    });
    let mut text = table(["COMPARED", "OLD", "NEW", "NEW/OLD"], [false, true, true, true], rows);
    let old = &comparison.old;
    text.push_str(&wrapped("", &format!("Old is version {} of {}.", old.version, format::moment(&old.started))));
    if let Some(warning) = &comparison.warning {
        text.push_str(&wrapped("warning: ", warning));
    }
    text
}

/// Aligned columns; the widest are cut where all of them do not fit.
fn table<const N: usize>(heads: [&str; N], to_the_right: [bool; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows = rows.map(|row| row.map(|cell| cleaned(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    while widths.iter().sum::<usize>() + GAP.len() * (N - 1) > WIDTH {
        let Some(widest) = widths.iter_mut().max() else { break };
        *widest -= 1;
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = (0..N)
            .map(|column| {
                let (cell, width) = (cut(&row[column], widths[column]), widths[column]);
                if to_the_right[column] { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            })
            .collect();
        text.push_str(cells.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of words behind a label, the later ones indented as far as it.
fn wrapped(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let (mut result, mut column) = (cleaned(label), indent);
    for word in cleaned(text).split_whitespace() {
        // A word that no line has room for is taken apart.
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(WIDTH - indent) {
            if column > indent && column + 1 + piece.len() > WIDTH {
                result.push('\n');
                result.push_str(&" ".repeat(indent));
                column = indent;
            } else if column > indent {
                result.push(' ');
                column += 1;
            }
            result.extend(piece);
            column += piece.len();
        }
    }
    result.truncate(result.trim_end().len());
    result + "\n"
}

/// Nothing that a terminal would obey.
fn cleaned(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::slo::Goals;

    #[test]
    fn a_report_reads_as_an_aligned_table() {
        let mut report = example::report();
        let goals = "goals:\n- {figure: converge.lookups, at_most: 10000, why: Every lookup costs.}\n\
                     - {figure: converge.peak, at_most: 1.5, why: Memory is limited.}\n";
        report.verdicts.extend(Goals::parse(goals).unwrap().judge(&report));
        let mut old = example::report();
        old.add_figure("converge.gone", "Gone", 1.0, "MiB");
        old.figures[0].value = 47.1;
        old.setup.insert("replicas".to_owned(), 2.into());
        let expected = "\
scenario  converge
started   2026-07-30 12:00:00 UTC, took 2 min 11 s
version   0.1.0
machine   2 cores, 23.5 GiB, AMD EPYC, Linux 6.18.44
setup     policies 10,000, replicas 1

FIGURE            ID                 VALUE
Time to converge  converge.seconds    94.2  s
Lookups           converge.lookups  12,345

GOAL          FIGURE             VALUE  BOUND
held          Time to converge  94.2 s  at most 120 s
MISSED        Lookups           12,345  at most 10,000
not measured  converge.peak          –  at most 1.5
MISSED: Lookups. Every lookup costs.
not measured: converge.peak. Memory is limited.

COMPARED               OLD     NEW   NEW/OLD
Time to converge    47.1 s  94.2 s     ×2.00
Lookups             12,345  12,345     ×1.00
Gone              1.00 MiB       –  only old
Old is version 0.1.0 of 2026-07-30 12:00:00 UTC.
warning: the runs differ in replicas: 2 → 1

note: One node.
";
        assert_eq!(render(&report, Some(&Comparison::of(&old, &report))), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut report = example::report();
        report.notes.push("word ".repeat(60) + &"x".repeat(300));
        report.add_figure(
            &format!("converge.{}", "long".repeat(30)),
            &"A long title ".repeat(20),
            1.0,
            "furlongs per fortnight",
        );
        for name in 0..40 {
            report.setup.insert(format!("parameter-{name}"), name.into());
        }
        let told = render(&report, Some(&Comparison::of(&example::report(), &report)));
        assert!(told.lines().all(|line| line.chars().count() <= WIDTH), "{told}");
        assert!(told.lines().all(|line| line.trim_end() == line), "{told}");
        assert!(told.contains('…'), "{told}");
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let mut report = example::report();
        report.notes.push("\u{1b}[31mred\nnext".to_owned());
        report.figures[0].title = "a\tb\u{7}".to_owned();
        let told = render(&report, None);
        assert!(!told.contains(|letter: char| letter.is_control() && letter != '\n'), "{told}");
        assert!(told.contains("[31mred next"), "{told}");
    }

    #[test]
    fn an_empty_report_is_only_its_head() {
        let report = Report { machine: Default::default(), ..Report::new("empty", "now", "") };
        assert_eq!(render(&report, None), "scenario  empty\nstarted   now, took 0 s\nmachine   unknown\n");
    }
}
