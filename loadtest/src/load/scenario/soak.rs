//! Everything at once, for as long as one likes: answers and policies change, the controller is killed now and then.

use std::time::{Duration, Instant};

use anyhow::Result;
use egress_domain::api::EgressPolicy;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use loadtest_report::Report;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{converged, limit_to_answers, patience};
use crate::load::bed::Bed;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::over_time::latency;
use crate::load::progress::Progress;
use crate::load::timeline::Timeline;
use crate::load::window::{Window, used};

/// Between two changes of an answer, and between two policies that come and go.
const CHANGE_EVERY: Duration = Duration::from_secs(1);
/// Between two kills of the controller, at most. All of them come in the first half of the window: whether memory grows is
/// asked of one process.
const KILL_EVERY: Duration = Duration::from_secs(600);
/// How often it is killed at least.
const KILLS: u32 = 2;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = converged(&options).await?;
    limit_to_answers(&bed);
    drop(bed.observer.reset());
    let (policies, within) = (bed.workload.size.policies, patience(bed.workload.size.policies));
    let timeline = Timeline::start(&bed);
    let mut window = Window::open(&bed).await?;
    let mut memory = None;
    let mut random = StdRng::seed_from_u64(bed.workload.size.seed);
    let progress = Progress::new("soak", options.window_seconds as usize);
    let (started, mut killed, mut kills) = (Instant::now(), Instant::now(), 0);
    let mut ticks = tokio::time::interval(CHANGE_EVERY);
    let window_length = Duration::from_secs(options.window_seconds);
    for round in 0_usize.. {
        if started.elapsed() >= window_length {
            break;
        }
        ticks.tick().await;
        bed.change(random.random_range(0..bed.workload.size.hosts));
        come_and_go(&bed, round).await?;
        let kill_every = KILL_EVERY.min(window_length / 2 / (KILLS + 1));
        if killed.elapsed() >= kill_every && started.elapsed() < window_length / 2 {
            window.carry(bed.replicas[0].id());
            let pod = bed.replicas.remove(0).pod.clone();
            bed.start_in(&pod).await?;
            timeline.follow(&bed);
            (killed, kills) = (Instant::now(), kills + 1);
        }
        if memory.is_none() && started.elapsed() >= window_length * 2 / 3 {
            memory = Some(used(&bed.controller_ids()).memory);
        }
        progress.at(started.elapsed().as_secs() as usize);
    }
    progress.done();
    bed.settled("the last changes", within).await?;
    let counts = bed.observer.reset();
    let cost = window.cost(&bed).await?;

    let mut figures = Figures { report: &mut report };
    figures.latencies("committed", "From a changed answer to the NetworkPolicy", &counts.latencies());
    figures.add("kills", "Kills of the controller", f64::from(kills), "count");
    figures.add("open", "Revisions that allowed more than was ever answered", counts.open.len() as f64, "count");
    figures.add("removed", "Addresses removed", counts.removed as f64, "count");
    figures.add("unchanged", "Revisions that changed nothing", counts.unchanged as f64, "count");
    let growth = memory.map_or(f64::NAN, |before| cost.memory as f64 / before as f64);
    figures.add("memory_growth", "Memory at the end, relative to that after two thirds of the window", growth, "ratio");
    figures.cost(&cost, policies);
    figures.queues(&timeline);
    report.plots.push(latency("soak", &counts, started));
    report.notes.extend(counts.open);
    report.plots.extend(timeline.plots("soak"));
    Ok(report)
}

/// A policy beside the others is created in one round and deleted in the next.
async fn come_and_go(bed: &Bed, round: usize) -> Result<()> {
    let namespace = bed.workload.namespace_of(round / 2);
    let policies = Api::<EgressPolicy>::namespaced(bed.client.clone(), &namespace);
    if round.is_multiple_of(2) {
        let mut policy = bed.workload.egress_policy(round / 2 % bed.workload.size.policies);
        policy.metadata.name = Some("guest".to_owned());
        policy.metadata.namespace = Some(namespace);
        policies.create(&PostParams::default(), &policy).await?;
    } else {
        drop(policies.delete("guest", &DeleteParams::default()).await?);
    }
    Ok(())
}
