use super::*;
use crate::example::{self, axis, line};
use crate::report::{Latency, Plot, Scale, Style};

fn plotted(scale: Scale, points: &[(f64, f64)]) -> String {
    let lines = [Style::Line, Style::Dots, Style::Dashed].map(|style| line("series", style, points)).to_vec();
    let (x, y) = (axis("time", "s", scale), axis("depth", "count", scale));
    plot(&Plot { id: "s.p".into(), title: "Depth".into(), x, y, lines, help: String::new() })
}

#[track_caller]
fn is_sound(html: &str) {
    assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
    assert_eq!(html.matches("<path").count(), html.matches("</path>").count() + html.matches("/>").count(), "{html}");
    assert_eq!(html.matches("<figure").count(), html.matches("</figure>").count(), "{html}");
}

#[test]
fn plots_without_points_with_one_and_with_equal_ones_are_whole_pages_all_the_same() {
    for scale in [Scale::Linear, Scale::Log] {
        for points in [
            &[][..],
            &[(1.0, 5.0)],
            &[(0.0, 0.0)],
            &[(1.0, 5.0), (1.0, 5.0)],
            &[(1.0, 5.0), (2.0, 5.0)],
            &[(f64::NAN, 1.0)],
            &[(1.0, f64::INFINITY), (2.0, 3.0)],
            &[(-1.0, -1e300), (1e300, 0.0)],
        ] {
            is_sound(&plotted(scale, points));
        }
    }
    is_sound(&plot(&Plot { lines: Vec::new(), ..example::report().plots.remove(0) }));
}

#[test]
fn a_plot_without_points_says_so() {
    assert!(plotted(Scale::Linear, &[]).contains("no data"));
    assert!(plotted(Scale::Linear, &[(f64::NAN, f64::NAN)]).contains("no data"));
    assert!(!plotted(Scale::Linear, &[(1.0, 1.0)]).contains("no data"));
}

#[test]
fn a_point_that_is_no_number_is_a_gap_in_the_line() {
    let html = plotted(Scale::Linear, &[(0.0, 0.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 0.0)]);
    assert!(html.contains("d=\"M0 1000L250 0M750 0L1000 1000\""), "{html}");
}

#[test]
fn points_that_a_logarithmic_axis_cannot_show_are_counted() {
    let html = plotted(Scale::Log, &[(1.0, 0.0), (10.0, 10.0), (100.0, 100.0)]);
    assert!(html.contains("3 points are not drawn: they are at zero or below, or too large."), "{html}");
    assert!(html.contains("depth, logarithmic") && html.contains("time (s), logarithmic"), "{html}");
}

#[test]
fn references_are_grey_dashes_and_measured_series_differ_in_colour_and_dash() {
    let mut of_two = example::report().plots.remove(0);
    of_two.lines.push(line("failed", Style::Line, &[(0.0, 1.0)]));
    let html = plot(&of_two);
    assert!(html.contains("<g class=\"c0 d0\"><title>written</title>"), "{html}");
    assert!(html.contains("<g class=\"c1 d1\"><title>failed</title>"), "{html}");
    assert!(html.find("<g class=\"ref r0\"><title>ceiling</title>") < html.find("<g class=\"c0 d0\">"), "{html}");
    assert_eq!(html.matches("<li>").count(), 3);
}

#[test]
fn each_point_tells_its_values() {
    let html = plot(&example::report().plots[0]);
    assert!(html.contains("<title>written: 6,000 at time 50.0 s</title>"), "{html}");
}

#[test]
fn a_long_series_stays_a_short_page() {
    let points: Vec<(f64, f64)> = (0..200_000).map(|i| (f64::from(i), f64::from(i * 7919 % 10_007))).collect();
    let html = plotted(Scale::Linear, &points);
    assert!(html.len() < 800_000, "{}", html.len());
    is_sound(&html);
}

#[test]
fn latencies_are_drawn_by_nines_with_their_longest() {
    let html = latency(&example::report().latencies[0]);
    is_sound(&html);
    assert!(html.contains("latency (ms), logarithmic") && html.contains("percentile (%)"), "{html}");
    assert!(
        html.contains("<dt>count</dt><dd>10,000</dd>") && html.contains("<dt>p99.9</dt><dd>40.0 ms</dd>"),
        "{html}"
    );
    assert!(html.contains("<title>quantiles: 11.0 ms at p99</title>"), "{html}");
    assert!(html.contains("<title>max: 71.5 ms</title>"), "{html}");
}

#[test]
fn latencies_of_nothing_are_a_plot_without_data() {
    let nothing = Latency { count: 0, quantiles: Vec::new(), max: f64::NAN, ..example::report().latencies.remove(0) };
    let html = latency(&nothing);
    is_sound(&html);
    assert!(html.contains("no data") && html.contains("<dt>max</dt><dd>–</dd>"), "{html}");
    is_sound(&latency(&Latency { quantiles: vec![(1.0, 3.0), (f64::NAN, 1.0), (-1.0, 2.0)], ..nothing }));
}

#[test]
fn quantiles_are_named_without_the_noise_of_floating_point() {
    let names = [0.0, 0.5, 0.99, 0.999, 0.9999, 0.99999].map(latency::quantile);
    assert_eq!(names, ["min", "p50", "p99", "p99.9", "p99.99", "p99.999"]);
}
