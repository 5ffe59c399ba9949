//! What happened when: revisions and latencies over the time of a run, for the plots.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loadtest_report::{Plot, Style};

use super::observer::Counts;
use super::plots::{axis, line, plot};

/// Points of a line at most: more cannot be told apart on a page.
const POINTS: f64 = 300.0;

/// NetworkPolicies written per second, beside the rate that a minimal client reaches.
#[must_use]
pub fn throughput(scenario: &str, counts: &Counts, since: Instant, ceiling: f64) -> Plot {
    let times: Vec<f64> = counts.written.iter().map(|at| seconds(*at, since)).collect();
    let width = width(&times);
    let mut rates: BTreeMap<u64, f64> = BTreeMap::new();
    for time in &times {
        *rates.entry((time / width) as u64).or_default() += 1.0 / width;
    }
    let last = rates.keys().last().copied().unwrap_or(0);
    let rate = |number: u64| ((number as f64 + 0.5) * width, rates.get(&number).copied().unwrap_or(0.0));
    let written = line("controller", (0..=last).map(rate).collect(), Style::Line);
    let end = (last as f64 + 1.0) * width;
    let most = line("ceiling", vec![(0.0, ceiling), (end, ceiling)], Style::Dashed);
    let (id, title) = (format!("{scenario}.throughput"), "NetworkPolicies written");
    let mut plot = plot(&id, title, axis("Time", "s"), axis("Revisions", "1/s"), vec![written, most]);
    plot.help =
        "Dashed: what the API server takes from a minimal client that sends the same and nothing else.".to_owned();
    plot
}

/// Median and p99 of the latencies, over the moment at which they ended.
#[must_use]
pub fn latency(scenario: &str, counts: &Counts, since: Instant) -> Plot {
    let times: Vec<f64> = counts.met.iter().map(|(at, _)| seconds(*at, since)).collect();
    let width = width(&times);
    let mut buckets: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for (time, (_, latency)) in times.iter().zip(&counts.met) {
        buckets.entry((time / width) as u64).or_default().push(*latency);
    }
    buckets.values_mut().for_each(|bucket| bucket.sort_unstable());
    let quantile = |q: f64| {
        let of = |(number, bucket): (&u64, &Vec<Duration>)| {
            let found = bucket[((bucket.len() - 1) as f64 * q) as usize];
            ((*number as f64 + 0.5) * width, found.as_secs_f64())
        };
        buckets.iter().map(of).collect()
    };
    let lines = vec![line("median", quantile(0.5), Style::Line), line("p99", quantile(0.99), Style::Dots)];
    let (id, title) = (format!("{scenario}.latency_over_time"), "From wanted to committed");
    plot(&id, title, axis("Time of the commit", "s"), axis("Latency", "s"), lines)
}

/// How many of these moments had come, at each of them.
#[must_use]
pub fn cumulated(moments: &[Instant], since: Instant) -> Vec<(f64, f64)> {
    let mut sorted: Vec<f64> = moments.iter().map(|at| seconds(*at, since)).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.into_iter().enumerate().map(|(number, at)| (at, number as f64 + 1.0)).collect()
}

fn seconds(at: Instant, since: Instant) -> f64 {
    at.saturating_duration_since(since).as_secs_f64()
}

/// Seconds that one point stands for.
fn width(times: &[f64]) -> f64 {
    (times.iter().copied().fold(0.0, f64::max) / POINTS).ceil().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(since: Instant, millis: &[u64]) -> Counts {
        let at = |millis: &u64| since + Duration::from_millis(*millis);
        let met = millis.iter().map(|millis| (at(millis), Duration::from_millis(*millis))).collect();
        Counts { written: millis.iter().map(at).collect(), met, ..Counts::default() }
    }

    #[test]
    fn a_second_without_a_revision_is_a_rate_of_nothing() {
        let since = Instant::now();
        let plot = throughput("churn", &counts(since, &[100, 900, 2_500]), since, 7.0);
        assert_eq!(plot.lines[0].points, [(0.5, 2.0), (1.5, 0.0), (2.5, 1.0)]);
        assert_eq!(plot.lines[1].points, [(0.0, 7.0), (3.0, 7.0)]);
    }

    #[test]
    fn a_long_run_has_as_many_points_as_a_page_can_show() {
        let since = Instant::now();
        let millis: Vec<u64> = (0..3_600).map(|second| second * 1_000).collect();
        let plot = throughput("soak", &counts(since, &millis), since, 7.0);
        assert!(plot.lines[0].points.len() <= 300, "{}", plot.lines[0].points.len());
        assert!((plot.lines[0].points[5].1 - 1.0).abs() < 1e-9, "a rate per second all the same");
    }

    #[test]
    fn the_latencies_of_a_second_are_told_by_their_median() {
        let since = Instant::now();
        let plot = latency("churn", &counts(since, &[100, 300, 900, 2_500]), since);
        assert_eq!(plot.lines[0].points, [(0.5, 0.3), (2.5, 2.5)]);
    }
}
