//! Everything is right and nothing changes: what does it cost to look?

use std::time::Duration;

use anyhow::Result;
use loadtest_report::Report;

use super::converged;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::timeline::Timeline;
use crate::load::window::Window;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let bed = converged(&options).await?;
    let (size, window_seconds) = (bed.workload.size.clone(), options.window_seconds);
    // What the start left behind (first statuses, first lookups) is over after one TTL.
    Progress::wait("settling", Duration::from_secs(u64::from(size.ttl).min(60))).await;
    drop(bed.observer.reset());
    let timeline = Timeline::start(&bed);
    let window = Window::open(&bed).await?;
    Progress::wait("steady", Duration::from_secs(window_seconds)).await;
    let cost = window.cost(&bed).await?;
    let counts = bed.observer.reset();

    let mut figures = Figures { report: &mut report };
    figures.add("revisions", "Revisions of NetworkPolicies", counts.revisions() as f64, "count");
    figures.cost(&cost, size.policies);
    let hosts = (0..size.hosts).filter(|host| !bed.workload.policies_of(*host).is_empty()).count();
    let types = cost.lookups.keys().map(|(_, kind)| *kind).collect::<std::collections::BTreeSet<_>>().len();
    let minimum = (hosts * types.max(1)) as f64 * cost.seconds / f64::from(size.ttl);
    figures.add("lookups_minimum", "DNS queries that the TTL demands", minimum, "count");
    figures.add("lookups_over_minimum", "DNS queries, relative to that", cost.queries() as f64 / minimum, "ratio");
    report.plots.extend(timeline.plots("steady"));
    Ok(report)
}
