//! Writes a page of made-up data, to look at the page: `cargo run -p loadtest-report --example sample -- FILE.html`.

use std::path::Path;

use anyhow::{Context as _, Result};
use loadtest_report::{Axis, Comparison, Goals, Latency, Line, Plot, Report, Scale, Style, html, terminal};

const GOALS: &str = "
goals:
  - figure: sample-data.seconds
    at_most: 120
    when: {policies: 10000}
    why: A restart of the controller must not leave tenants waiting for longer than two minutes.
  - figure: sample-data.relative_to_ceiling
    at_most: 1.2
    why: What the API server could take at best is the measure of what we make of it.
  - figure: sample-data.lookups_per_host
    at_most: 1.5
    why: Each lookup that could be shared is load on somebody else's resolver.
  - figure: sample-data.memory
    at_most: 256
    why: The limit of the Deployment is 512 MiB, and half of it is for peaks.
  - figure: sample-data.correct
    at_least: 1
    why: No policy may differ from what a resolver says.
  - figure: sample-data.reconnects
    at_most: 3
    why: A watch that breaks often reads everything again.
";

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: sample FILE.html")?;
    let (mut old, new) = (sample(1.18, "0.1.0"), sample(1.0, "0.2.0"));
    old.started = "2026-07-12T09:30:00Z".to_owned();
    old.setup.insert("replicas".to_owned(), 2.into());
    let comparison = Comparison::of(&old, &new);
    std::fs::write(Path::new(&path), html::render(&new, Some(&comparison))).with_context(|| path.clone())?;
    print!("{}", terminal::render(&new, Some(&comparison)));
    Ok(())
}

fn sample(slower: f64, version: &str) -> Report {
    let mut report = Report::new("sample-data", "2026-07-30T12:00:00Z", version);
    report.seconds = 754.0 * slower;
    let setup = [("policies", 10_000), ("namespaces", 1000), ("hosts", 4000), ("replicas", 1), ("seed", 7)];
    report.setup = setup.map(|(name, value)| (name.to_owned(), value.into())).into();
    report.setup.insert("scenario file".to_owned(), "sample.yaml".into());
    let figures = [
        ("seconds", "Time to converge after a restart", 94.23 * slower, "s"),
        ("relative_to_ceiling", "Time over what the API server could do", 1.177 * slower, "ratio"),
        ("written", "NetworkPolicies written", 10_000.0, "count"),
        ("lookups", "Lookups", 6842.0 * slower, "count"),
        ("lookups_per_host", "Lookups per host", 1.71 * slower, "ratio"),
        ("writes", "Writes at the peak", 143.2 / slower, "1/s"),
        ("p99", "Write latency, 99 of 100", 41.7 * slower * slower, "ms"),
        ("memory", "Memory at the peak", 187.4, "MiB"),
        ("per_policy", "Memory per policy", 9.63 / slower, "KiB"),
        ("cpu", "CPU time while idle", 0.84, "%"),
        ("correct", "Policies as a resolver says", 1.0, "ratio"),
    ];
    for (id, title, value, unit) in figures {
        report.add_figure(&format!("sample-data.{id}"), title, value, unit);
    }
    if slower > 1.0 {
        report.add_figure("sample-data.retries", "Retries", 12.0, "count");
    } else {
        report.add_figure("sample-data.queue", "Longest queue", 8211.0, "count");
    }
    report.plots = plots();
    report.latencies = vec![
        latency("write", "Write of a NetworkPolicy", 10_000, 6.2, 5),
        latency("lookup", "DNS lookup", 6842, 1.1, 4),
        latency("event", "From a changed answer to the written policy", 312, 480.0, 2),
    ];
    report.notes = vec![
        "Sample data: every number on this page is made up, and no program was measured.".to_owned(),
        "The API server, etcd and the controller share the processors of one machine; with machines of their own all \
         of them are faster."
            .to_owned(),
    ];
    report.verdicts = Goals::parse(GOALS).map(|goals| goals.judge(&report)).unwrap_or_default();
    report
}

fn plots() -> Vec<Plot> {
    let seconds: Vec<f64> = (0..=940).map(|tenth| f64::from(tenth) / 10.0).collect();
    let over = |of: fn(f64) -> f64| seconds.iter().map(|at| (*at, of(*at))).collect::<Vec<_>>();
    let sizes = [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];
    let hiccup = |index: i32| (f64::from(index) * 0.075, 3.0 + noise(f64::from(index)).powi(6) * 160.0);
    vec![
        plot(
            ("progress", "Progress after a restart", "How many policies are as they should be, against the ceiling."),
            (axis("time", "s", Scale::Linear), axis("policies written", "count", Scale::Linear)),
            vec![
                line("written", Style::Line, over(|at| (at * at / (at + 7.0) * 117.0).min(10_000.0))),
                line("resolved", Style::Line, over(|at| (at * 212.0).min(10_000.0))),
                line("ceiling of the API server", Style::Dashed, vec![(0.0, 0.0), (80.0, 10_000.0), (94.0, 10_000.0)]),
            ],
        ),
        plot(
            ("memory", "Memory", "Resident memory of the processes, each second."),
            (axis("time", "s", Scale::Linear), axis("resident", "MiB", Scale::Linear)),
            vec![
                line("controller", Style::Line, over(|at| 62.0 + 125.0 * (1.0 - (-at / 30.0).exp()) + noise(at) * 6.0)),
                line(
                    "second replica",
                    Style::Line,
                    over(|at| 58.0 + 20.0 * (1.0 - (-at / 20.0).exp()) + noise(at) * 3.0),
                ),
                line("limit", Style::Dashed, vec![(0.0, 256.0), (94.0, 256.0)]),
            ],
        ),
        plot(
            (
                "scaling",
                "Time to converge by the number of policies",
                "Both axes by magnitude: a straight line is a power.",
            ),
            (axis("policies", "count", Scale::Log), axis("time to converge", "s", Scale::Log)),
            vec![
                line("one replica", Style::Line, sizes.map(|size| (size, 0.6 + size * 0.009_3)).to_vec()),
                line("two replicas", Style::Line, sizes.map(|size| (size, 1.1 + size * 0.005_4)).to_vec()),
                line("four replicas", Style::Line, sizes.map(|size| (size, 1.7 + size * 0.003_1)).to_vec()),
                line("linear", Style::Dashed, sizes.map(|size| (size, size * 0.008)).to_vec()),
            ],
        ),
        plot(
            ("writes", "Each write", "One point per write; the few that waited for the API server stand out."),
            (axis("time", "s", Scale::Linear), axis("duration", "ms", Scale::Log)),
            vec![
                line("create", Style::Dots, (0..900).map(hiccup).collect()),
                line("update", Style::Dots, (900..1200).map(hiccup).map(|(x, y)| (x, y * 0.7)).collect()),
            ],
        ),
        plot(
            ("queue", "Queue depth", "Policies that wait for a lookup or a write; the gap is a restart."),
            (axis("time", "s", Scale::Linear), axis("waiting", "count", Scale::Linear)),
            vec![line(
                "waiting",
                Style::Line,
                over(|at| {
                    if (40.0..46.0).contains(&at) {
                        f64::NAN
                    } else {
                        (8200.0 - at * 96.0).max(0.0) + noise(at) * 700.0
                    }
                }),
            )],
        ),
        plot(
            ("failures", "Failed writes", "Nothing failed in this run."),
            (axis("time", "s", Scale::Linear), axis("failed writes", "1/s", Scale::Linear)),
            vec![line("failed", Style::Line, Vec::new())],
        ),
    ]
}

fn plot((id, title, help): (&str, &str, &str), (x, y): (Axis, Axis), lines: Vec<Line>) -> Plot {
    Plot {
        id: format!("sample-data.{id}"),
        title: format!("{title} (sample data)"),
        x,
        y,
        lines,
        help: help.to_owned(),
    }
}

fn axis(label: &str, unit: &str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), unit: unit.to_owned(), scale }
}

fn line(name: &str, style: Style, points: Vec<(f64, f64)>) -> Line {
    Line { name: name.to_owned(), points, style }
}

/// With a tail that grows with each nine.
fn latency(id: &str, title: &str, count: u64, typical: f64, nines: i32) -> Latency {
    let quantiles = [0.0, 0.25, 0.5, 0.75].into_iter().chain((1..=nines).map(|nines| 1.0 - 10_f64.powi(-nines)));
    let at = |q: f64| (q, typical * (0.4 + q) * (1.0 - q).powf(-0.37));
    let quantiles: Vec<(f64, f64)> = quantiles.map(at).collect();
    let max = quantiles.last().map_or(typical, |(_, last)| last * 1.4);
    Latency { id: format!("sample-data.{id}"), title: format!("{title} (sample data)"), count, quantiles, max }
}

/// Between 0 and 1, always the same.
fn noise(seed: f64) -> f64 {
    ((seed * 12.9898).sin() * 43_758.545_3).fract().abs()
}
