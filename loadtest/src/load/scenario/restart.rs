//! The controller is killed and comes back, in the same pod and in another one: does anything get lost or written?

use std::time::{Duration, Instant};

use anyhow::Result;
use egress_testbed::eventually;
use loadtest_report::Report;

use super::converged;
use crate::load::bed::Bed;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::window::{Cost, Window};

/// Longest wait for a replica that comes back: several leases.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// What a restart would write, it has written by then.
const AFTERWARDS: Duration = Duration::from_secs(20);

/// Runs it.
///
/// # Errors
/// When the policies do not become right, or a replica does not come back.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = converged(&options).await?;
    let policies = bed.workload.size.policies;
    let pod = bed.replicas[0].pod.clone();
    let (seconds, cost) = again(&mut bed, Some(&pod)).await?;
    let mut figures = Figures { report: &mut report };
    figures.add("ready_seconds", "Ready again in the same pod", seconds, "s");
    figures.add("writes", "Writes of NetworkPolicies by the restart", cost.network_policy_writes() as f64, "count");
    figures.cost(&cost, policies);
    let (seconds, cost) = again(&mut bed, None).await?;
    let mut figures = Figures { report: &mut report };
    figures.add("new_pod_ready_seconds", "Ready in another pod after kill -9", seconds, "s");
    let writes = cost.network_policy_writes();
    figures.add("new_pod_writes", "Writes of NetworkPolicies by the new pod", writes as f64, "count");
    bed.want_all(Instant::now());
    figures.add("missing", "Addresses that were lost", bed.observer.missing() as f64, "count");
    Ok(report)
}

/// Kills the replica and starts it in this pod, or in a new one; how long until its shards act, and what it cost.
async fn again(bed: &mut Bed, pod: Option<&str>) -> Result<(f64, Cost)> {
    // Dropping it kills it.
    bed.replicas.clear();
    let window = Window::open(bed).await?;
    let since = match pod {
        Some(pod) => bed.start_in(pod).await?,
        None => bed.new_pod().await?,
    };
    let wanted = bed.workload.size.policies as f64;
    let acts = async || {
        let actors = bed.replicas[0].pages().metric("egress_policy_actors").await?;
        anyhow::ensure!((actors - wanted).abs() < 0.5, "{actors} of {wanted} policies act");
        bed.replicas[0].pages().page("/readyz").await.map(drop)
    };
    eventually(READY_WITHIN, acts).await?;
    let seconds = since.elapsed().as_secs_f64();
    Progress::wait("afterwards", AFTERWARDS).await;
    let cost = window.cost(bed).await?;
    Ok((seconds, cost))
}
