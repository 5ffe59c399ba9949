//! Policies exist, the controller starts: how long until every NetworkPolicy is right, and what does it cost?

use std::time::Duration;

use anyhow::Result;
use egress_testbed::eventually;
use loadtest_report::{Report, Style};

use super::ceiling as ceiling_figures;
use super::start::{Start, start};
use crate::load::bed::Bed;
use crate::load::ceiling;
use crate::load::figures::{Figures, KIB, MIB};
use crate::load::options::Options;
use crate::load::over_time::{cumulated, throughput};
use crate::load::plots::{axis, line, plot};
use crate::load::window::used;

/// A process without work has taken what memory it takes by then.
const BASELINE_AFTER: Duration = Duration::from_secs(5);

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = Bed::open(&options).await?;
    let baseline = baseline(&mut bed).await?;
    let before = ceiling::measure(&bed, 1).await?;
    bed.fill().await?;
    let Start { since, counts, seconds, first_cost, status_seconds, cost, timeline } = start(&mut bed).await?;
    let plots = timeline.plots("converge");
    bed.stop_controller().await?;
    let ceiling = before.lower(ceiling::measure(&bed, 2).await?);

    let policies = bed.workload.size.policies;
    let mut figures = Figures { report: &mut report };
    figures.add("seconds", "Every NetworkPolicy right", seconds, "s");
    figures.add("status_seconds", "Every status right", status_seconds, "s");
    // A peer writes no default denies, so what is counted is what the API server took.
    let (created, changed, early) = first_cost.taken();
    let bare = ceiling.seconds(created, 0, 0);
    figures.add("relative_to_creates", "Time, relative to as many bare creates", seconds / bare, "ratio");
    let relative = seconds / ceiling.seconds(created, changed, early);
    figures.add("relative_to_ceiling", "Time, relative to the ceiling for what was written by then", relative, "ratio");
    let (created, changed, statuses) = cost.taken();
    let least = ceiling.seconds(created, changed, statuses);
    let title = "Time with every status, relative to the ceiling";
    figures.add("status_relative_to_ceiling", title, status_seconds / least, "ratio");
    figures.add(
        "first_cpu",
        "CPU of the controller until every NetworkPolicy was right",
        first_cost.controller_cpu,
        "s",
    );
    let mib = first_cost.memory as f64 / MIB;
    figures.add("first_memory", "Resident memory when every NetworkPolicy was right", mib, "MiB");
    figures.add("baseline_memory", "Resident memory of a replica without work", baseline / MIB, "MiB");
    let replicas = bed.workload.size.replicas as f64;
    let each = (cost.memory as f64 - baseline * replicas) / policies as f64 / KIB;
    figures.add("memory_per_policy", "Memory per policy over the baseline", each, "KiB");
    figures.cost(&cost, policies);
    figures.queues(&timeline);
    // By the time of the last status some answers have expired.
    let over = first_cost.queries() as f64 / first_cost.lookups.len() as f64;
    figures.add("lookups_over_minimum", "DNS queries, relative to one per name and type", over, "ratio");
    figures.add("unchanged", "Revisions that changed nothing", counts.unchanged as f64, "count");
    figures.latencies("latency", "From the start to a policy's address", &counts.latencies());
    ceiling_figures::add(&mut report, ceiling);
    let right = cumulated(&counts.right, since);
    let reference = vec![(0.0, 0.0), (policies as f64 / ceiling.creates, policies as f64)];
    let lines = vec![line("controller", right, Style::Line), line("bare creates", reference, Style::Dashed)];
    let (id, title) = ("converge.right_over_time", "Policies that are right");
    let mut right = plot(id, title, axis("Time since the start", "s"), axis("Policies", ""), lines);
    right.help = "Dashed: a minimal client that creates as many NetworkPolicies and does nothing else.".to_owned();
    report.plots.push(right);
    report.plots.push(throughput("converge", &counts, since, ceiling.creates));
    report.plots.extend(plots);
    Ok(report)
}

/// Resident bytes of a replica that has nothing to do.
pub(super) async fn baseline(bed: &mut Bed) -> Result<f64> {
    if bed.peer.is_some() {
        return Ok(0.0);
    }
    bed.new_pod().await?;
    let pages = bed.replicas[0].pages();
    eventually(Duration::from_secs(60), || pages.page("/readyz")).await?;
    tokio::time::sleep(BASELINE_AFTER).await;
    let memory = used(&bed.controller_ids()).memory;
    bed.stop_controller().await?;
    Ok(memory as f64)
}
