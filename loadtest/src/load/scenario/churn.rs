//! Answers change all the time: how late are the NetworkPolicies?

use std::time::{Duration, Instant};

use anyhow::Result;
use loadtest_report::Report;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::{ceiling as ceiling_figures, converge, patience};
use crate::load::bed::Bed;
use crate::load::ceiling;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::over_time::{latency, throughput};
use crate::load::progress::Progress;
use crate::load::timeline::Timeline;
use crate::load::window::Window;

/// The share of the ceiling that the changes ask for.
const SHARE: f64 = 0.5;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = Bed::open(&options).await?;
    let before = ceiling::measure(&bed, 1).await?;
    bed.fill().await?;
    converge(&mut bed).await?;
    let size = bed.workload.size.clone();
    // Lookups are spread over the TTL from here on, as they are in a cluster that has run for a while.
    Progress::wait("settling", Duration::from_secs(u64::from(size.ttl).min(60))).await;
    drop(bed.observer.reset());

    // A write in two is a status.
    let changes_per_second = before.mixed() * SHARE / 2.0;
    let policies_per_host = size.policies as f64 * size.hosts_per_policy as f64 / size.hosts as f64;
    let hosts_per_second = changes_per_second / policies_per_host;
    eprintln!("{hosts_per_second:.2} hosts change each second, each in {policies_per_host:.0} policies");
    let (timeline, since) = (Timeline::start(&bed), Instant::now());
    let window = Window::open(&bed).await?;
    let (changed, asked_for) = change(&mut bed, hosts_per_second, Duration::from_secs(options.window_seconds)).await;
    bed.settled("the last changes", patience(size.policies) + Duration::from_secs(size.ttl.into())).await?;
    let counts = bed.observer.reset();
    let cost = window.cost(&bed).await?;
    let plots = timeline.plots("churn");
    bed.stop_controller().await?;
    let ceiling = before.lower(ceiling::measure(&bed, 2).await?);

    let mut figures = Figures { report: &mut report };
    figures.add("hosts_per_second", "Hosts whose answer changed, per second", hosts_per_second, "1/s");
    figures.add("changes", "Changes of answers", changed as f64, "count");
    figures.latencies("committed", "From a changed answer to the NetworkPolicy", &counts.latencies());
    figures.beyond_ttl(&counts.latencies(), size.ttl);
    figures.add("unchanged", "Revisions that changed nothing", counts.unchanged as f64, "count");
    figures.add("superseded", "Addresses that changed again before anybody asked", counts.superseded as f64, "count");
    let writes = counts.revisions() as f64;
    let title = "Revisions, relative to the policies whose hosts changed";
    figures.add("writes_per_change", title, writes / asked_for as f64, "ratio");
    figures.cost(&cost, size.policies);
    figures.queues(&timeline);
    ceiling_figures::add(&mut report, ceiling);
    report.plots.push(latency("churn", &counts, since));
    report.plots.push(throughput("churn", &counts, since, ceiling.applies));
    report.plots.extend(plots);
    Ok(report)
}

/// Changes hosts at this rate, each as often as any other; how many, and how many policies name them.
async fn change(bed: &mut Bed, per_second: f64, time: Duration) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(bed.workload.size.seed);
    let progress = Progress::new("churn", time.as_secs() as usize);
    let (started, mut changed, mut asked_for) = (Instant::now(), 0_usize, 0_usize);
    let mut deck: Vec<usize> = Vec::new();
    while started.elapsed() < time {
        let host = match deck.pop() {
            Some(host) => host,
            None => {
                deck = (0..bed.workload.size.hosts).collect();
                deck.shuffle(&mut random);
                continue;
            }
        };
        bed.change(host);
        changed += 1;
        asked_for += bed.workload.policies_of(host).len();
        let next = Duration::from_secs_f64(changed as f64 / per_second);
        tokio::time::sleep(next.saturating_sub(started.elapsed())).await;
        progress.at(started.elapsed().as_secs() as usize);
    }
    progress.done();
    (changed, asked_for)
}
