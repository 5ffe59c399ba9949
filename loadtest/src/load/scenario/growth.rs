//! The same start with more and more policies: how does what it costs grow?

use anyhow::{Result, ensure};
use loadtest_report::{Axis, Report, Scale, Style};

use super::converge::baseline;
use super::start::{Start, start};
use crate::load::bed::Bed;
use crate::load::ceiling;
use crate::load::figures::{Figures, MIB};
use crate::load::options::Options;
use crate::load::plots::{line, plot};
use crate::load::size::Size;

/// Numbers of policies: about half a magnitude apart, up to what the flag asks for.
const SIZES: [usize; 7] = [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000];
/// What the first second of a process costs does not grow: from here on it counts for little.
const LARGE: f64 = 3_000.0;

/// What is measured at each size: its name, title and unit.
const COSTS: [(&str, &str, &str); 5] = [
    ("seconds", "Every NetworkPolicy right", "s"),
    ("status_seconds", "Every status right, too", "s"),
    ("creates", "The same, in creates that a minimal client makes in that time", "count"),
    ("cpu", "CPU of the controller", "s"),
    ("memory", "Resident memory of the controller over that without work", "MiB"),
];

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    ensure!(options.kubeconfig.is_none(), "growth starts a control plane for each size; it takes no --kubeconfig");
    let most = options.size.policies;
    let mut sizes: Vec<usize> = SIZES.into_iter().filter(|policies| *policies < most).collect();
    sizes.push(most);
    let mut costs: [Vec<(f64, f64)>; COSTS.len()] = Default::default();
    for policies in sizes {
        let mut options = options.clone();
        options.size = scaled(&options.size, policies);
        eprintln!("{policies} of {most} policies");
        let measured = measure(&options).await?;
        let mut figures = Figures { report: &mut report };
        for (((name, title, unit), value), points) in COSTS.iter().zip(measured).zip(&mut costs) {
            figures.add(&format!("{name}_{policies}"), &format!("{title}, {policies} policies"), value, unit);
            points.push((policies as f64, value));
        }
    }
    let mut figures = Figures { report: &mut report };
    for ((name, title, _), points) in COSTS.iter().zip(&costs) {
        figures.add(
            &format!("{name}_exponent"),
            &format!("{title}: exponent of the growth"),
            exponent(points),
            "ratio",
        );
        let large: Vec<(f64, f64)> = points.iter().copied().filter(|(policies, _)| *policies >= LARGE).collect();
        let title = format!("{title}: exponent from {LARGE} policies on");
        figures.add(&format!("{name}_exponent_large"), &title, exponent(&large), "ratio");
    }
    for ((name, title, unit), points) in COSTS.iter().zip(costs) {
        let axis = |label: &str, unit: &str| Axis { label: label.to_owned(), unit: unit.to_owned(), scale: Scale::Log };
        let linear = points.last().map_or(Vec::new(), |(x, y)| vec![(*x, *y), (points[0].0, y * points[0].0 / x)]);
        let lines = vec![line("measured", points, Style::Line), line("linear", linear, Style::Dashed)];
        let id = format!("growth.{name}_by_size");
        report.plots.push(plot(&id, title, axis("Policies", ""), axis(title, unit), lines));
    }
    Ok(report)
}

/// As many namespaces and hosts for each policy as in the whole size.
fn scaled(size: &Size, policies: usize) -> Size {
    let share = |count: usize, least: usize| (count * policies / size.policies).max(least);
    let (namespaces, hosts) = (share(size.namespaces, 1), share(size.hosts, size.hosts_per_policy));
    Size { policies, namespaces, hosts, ..size.clone() }
}

/// What it costs to start with this size: [`COSTS`].
async fn measure(options: &Options) -> Result<[f64; COSTS.len()]> {
    let mut bed = Bed::open(options).await?;
    let baseline = baseline(&mut bed).await?;
    // Each size has its own control plane, and its own ceiling.
    let before = ceiling::measure(&bed, 1).await?;
    bed.fill().await?;
    let Start { seconds, status_seconds, cost, .. } = start(&mut bed).await?;
    bed.stop_controller().await?;
    let ceiling = before.lower(ceiling::measure(&bed, 2).await?);
    let memory = (cost.memory as f64 - baseline) / MIB;
    Ok([seconds, status_seconds, status_seconds * ceiling.creates, cost.controller_cpu, memory])
}

/// The slope of the line through the logarithms, by least squares: 1 where twice as much costs twice as much.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let logarithms = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let (mean_x, mean_y) =
        (logarithms().map(|(x, _)| x).sum::<f64>() / count, logarithms().map(|(_, y)| y).sum::<f64>() / count);
    let covariance: f64 = logarithms().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logarithms().map(|(x, _)| (x - mean_x).powi(2)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_square_is_two_and_of_one_point_nothing() {
        let squares: Vec<(f64, f64)> = [1.0, 3.0, 10.0].map(|x: f64| (x, 7.0 * x * x)).to_vec();
        assert!((exponent(&squares) - 2.0).abs() < 1e-9);
        assert!(exponent(&squares[..1]).is_nan());
    }

    #[test]
    fn a_smaller_size_has_as_many_policies_for_each_namespace_and_host() {
        let size = Size {
            policies: 30_000,
            namespaces: 3_000,
            hosts: 3_000,
            hosts_per_policy: 5,
            addresses: 2,
            ttl: 60,
            replicas: 1,
            seed: 1,
        };
        let small = scaled(&size, 100);
        assert_eq!((small.policies, small.namespaces, small.hosts), (100, 10, 10));
        assert_eq!(scaled(&size, 10).hosts, 5, "a policy's hosts differ");
    }
}
