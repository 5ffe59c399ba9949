//! One host that every policy names changes; in the middle of it another tenant's new policy appears.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use egress_domain::api::EgressPolicy;
use egress_testbed::eventually;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::PostParams;
use loadtest_report::Report;

use super::{ceiling as ceiling_figures, converge, patience};
use crate::fill::create_namespaces;
use crate::load::bed::Bed;
use crate::load::ceiling;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::window::Window;
use crate::load::workload::Workload;

/// A tenant whose policy comes when a tenth of the others have been written.
const NEW_TENANT: &str = "newcomer";

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = Bed::open_with(&options, Workload::with_shared_host(options.size.clone())).await?;
    let before = ceiling::measure(&bed, 1).await?;
    bed.fill().await?;
    create_namespaces(&bed.client, &[NEW_TENANT.to_owned()]).await?;
    converge(&mut bed).await?;
    let policies = bed.workload.size.policies;
    Progress::wait("settling", Duration::from_secs(10)).await;
    drop(bed.observer.reset());

    let window = Window::open(&bed).await?;
    bed.change(0);
    let tenth = async {
        eventually(patience(policies), async || {
            anyhow::ensure!(bed.observer.revisions() as usize >= policies / 10, "not written yet");
            Ok(())
        })
        .await?;
        newcomer(&bed).await
    };
    let (settled, newcomer) = tokio::join!(bed.settled("one host of all policies", patience(policies)), tenth);
    settled?;
    let newcomer = newcomer?;
    let counts = bed.observer.reset();
    let network_policies = window.cost(&bed).await?;
    bed.ready(patience(policies)).await?;
    let cost = window.cost(&bed).await?;
    let first = counts.right.iter().min().copied();
    let span = counts.last().zip(first).map_or(f64::NAN, |(last, first)| last.duration_since(first).as_secs_f64());
    bed.stop_controller().await?;
    let ceiling = before.lower(ceiling::measure(&bed, 2).await?);

    let mut figures = Figures { report: &mut report };
    figures.add("seconds", "From the first to the last of the policies", span, "s");
    let least = policies as f64 / ceiling.applies;
    figures.add("relative_to_applies", "The same, relative to as many bare applies", span / least, "ratio");
    figures.latencies("committed", "From the changed answer to the NetworkPolicy", &counts.latencies());
    figures.add("newcomer_seconds", "Another tenant's new policy in the middle of it", newcomer.as_secs_f64(), "s");
    let statuses = network_policies.status_writes() as f64;
    figures.add("statuses_meanwhile", "Statuses written before the last NetworkPolicy", statuses, "count");
    figures.cost(&cost, policies);
    ceiling_figures::add(&mut report, ceiling);
    Ok(report)
}

/// Creates another tenant's policy; how long until it has its NetworkPolicy.
async fn newcomer(bed: &Bed) -> Result<Duration> {
    let mut policy = bed.workload.egress_policy(1);
    policy.metadata.name = Some("new".to_owned());
    policy.metadata.namespace = Some(NEW_TENANT.to_owned());
    let since = Instant::now();
    let policies = Api::<EgressPolicy>::namespaced(bed.client.clone(), NEW_TENANT);
    policies.create(&PostParams::default(), &policy).await?;
    let objects = Api::<NetworkPolicy>::namespaced(bed.client.clone(), NEW_TENANT);
    let exists = async || objects.get_opt("egress-new").await?.context("it has no NetworkPolicy yet");
    eventually(patience(bed.workload.size.policies), exists).await?;
    Ok(since.elapsed())
}
