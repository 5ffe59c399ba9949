//! DNS fails while the controller starts, and again later while it is killed: nothing opens, nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use egress_testbed::dns::Script;
use loadtest_report::Report;

use super::{ceiling as ceiling_figures, limit_to_answers, patience};
use crate::load::bed::Bed;
use crate::load::ceiling;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::window::{Cost, Window};

/// How long DNS fails at the start.
const AT_START: Duration = Duration::from_secs(20);
/// How long it fails later; the controller is killed in the middle.
const LATER: Duration = Duration::from_secs(75);
/// Until it is known that DNS is back and all names have been asked: the most that 15 s leave where 10,000 writes take 9.
const TO_NOTICE: Duration = Duration::from_secs(6);
/// One host in so many changes its answer during the second outage.
const CHANGED: usize = 10;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = Bed::open(&options).await?;
    let ceiling_before = ceiling::measure(&bed, 1).await?;
    limit_to_answers(&bed);
    bed.fill().await?;
    let within = patience(bed.workload.size.policies);

    bed.dns.set_all(Some(Script::ServFail));
    let since = bed.start_controller().await?;
    Progress::wait("DNS fails", AT_START.saturating_sub(since.elapsed())).await;
    let at_start = bed.observer.reset();
    let first = recovery(&bed, "after the first outage", within).await?;
    let after_first = bed.observer.reset();
    bed.ready(within).await?;

    bed.dns.set_all(Some(Script::ServFail));
    let began = Instant::now();
    let between = bed.observer.reset();
    Progress::wait("DNS fails", LATER / 2).await;
    let pod = bed.replicas[0].pod.clone();
    // Dropping it kills it.
    bed.replicas.clear();
    bed.start_in(&pod).await?;
    for host in (0..bed.workload.size.hosts).step_by(CHANGED) {
        bed.change(host);
    }
    Progress::wait("DNS fails", LATER.saturating_sub(began.elapsed())).await;
    let meanwhile = bed.observer.reset();
    let second = recovery(&bed, "after the second outage", within).await?;
    let counts = bed.observer.reset();
    bed.ready(within).await?;
    bed.stop_controller().await?;
    let ceiling = ceiling_before.lower(ceiling::measure(&bed, 2).await?);

    let mut figures = Figures { report: &mut report };
    figures.add("first_seconds", "Right after an outage of 20 s at the start", first.seconds, "s");
    figures.add("second_seconds", "Right after an outage of 75 s with a restart in it", second.seconds, "s");
    for (name, title, counts) in [
        ("first_writes", "Revisions after the first outage until it was right", &after_first),
        ("writes_meanwhile", "Revisions while DNS failed the second time", &meanwhile),
        ("second_writes", "Revisions after the second outage until it was right", &counts),
    ] {
        figures.add(name, title, counts.revisions() as f64, "count");
    }
    let concerned = |host: usize| bed.workload.policies_of(host).iter().copied();
    let concerned: BTreeSet<usize> = (0..bed.workload.size.hosts).step_by(CHANGED).flat_map(concerned).collect();
    for (name, title, counts, policies) in [
        ("first_writes_per_policy", "Revisions per policy", &after_first, bed.workload.size.policies),
        ("second_writes_per_policy", "Revisions per policy with a host that changed", &counts, concerned.len()),
    ] {
        figures.add(name, title, counts.revisions() as f64 / policies as f64, "ratio");
    }
    for (which, then, cost) in [("first", "the first outage", &first), ("second", "the second outage", &second)] {
        let (created, changed, statuses) = cost.taken();
        let least = ceiling.seconds(created, changed, statuses);
        let title = format!("Time after {then}, relative to the ceiling for what was written by then");
        figures.add(&format!("{which}_relative"), &title, cost.seconds / least, "ratio");
        let title = format!("The same without the {} s in which DNS is found to be back", TO_NOTICE.as_secs());
        let rest = (cost.seconds - TO_NOTICE.as_secs_f64()).max(0.0);
        figures.add(&format!("{which}_relative_after_notice"), &title, rest / least, "ratio");
        for (name, what, value) in [("statuses", "Statuses", statuses), ("events", "Events", cost.events())] {
            figures.add(&format!("{which}_{name}"), &format!("{what} written by then"), value as f64, "count");
        }
        for (name, of, cpu) in [
            ("api_server_cpu", "API server", cost.api_server_cpu),
            ("etcd_cpu", "etcd", cost.etcd_cpu),
            ("controller_cpu", "the controller", Some(cost.controller_cpu)),
        ] {
            let Some(cpu) = cpu else { continue };
            figures.add(&format!("{which}_{name}"), &format!("CPU of {of} meanwhile"), cpu, "s");
        }
    }
    let all = [at_start, after_first, between, meanwhile, counts];
    let removed: u64 = all.iter().map(|counts| counts.removed).sum();
    figures.add("removed", "Addresses removed", removed as f64, "count");
    let open = all.map(|counts| counts.open).concat();
    figures.add("open", "Revisions that allowed more than was ever answered", open.len() as f64, "count");
    report.notes.extend(open);
    ceiling_figures::add(&mut report, ceiling);
    Ok(report)
}

/// DNS is back now: waits until everything is right; what that took and cost.
async fn recovery(bed: &Bed, title: &str, within: Duration) -> Result<Cost> {
    let window = Window::open(bed).await?;
    bed.dns.set_all(None);
    bed.settled(title, within).await?;
    window.cost(bed).await
}
