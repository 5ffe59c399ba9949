//! Hosts that answer a few addresses of a pool at random: the pool is learned, then nothing is written any more.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use loadtest_report::{Report, Style};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::converge;
use crate::load::bed::Bed;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::plots::{axis, line, plot};
use crate::load::progress::Progress;
use crate::load::workload::Workload;

/// Hosts that rotate.
const HOSTS: usize = 100;
/// Addresses of each, and how many of them are in an answer.
const POOL: usize = 40;
const PER_ANSWER: usize = 4;
/// TTL of their answers, and the least time between two lookups.
const TTL: u32 = 1;
/// Lookups of simulated pods for each host and second.
const PODS: usize = 5;
/// The end of the window, in which nothing may be written any more.
const AFTERWARDS: u64 = 30;

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(mut options: Options, mut report: Report) -> Result<Report> {
    options.controller_flags.push(format!("--min-refresh-seconds={TTL}"));
    let mut bed = Bed::open(&options).await?;
    let hosts = HOSTS.min(bed.workload.size.hosts);
    for host in 0..hosts {
        bed.dns.set_host(&Workload::host(host), &bed.workload.answer(host, 0), TTL);
    }
    bed.fill().await?;
    converge(&mut bed).await?;
    let pool =
        |host: usize| -> Vec<IpAddr> { (0..POOL).map(|number| bed.workload.answer(host, number + 1)[0]).collect() };
    let pools: Vec<Vec<IpAddr>> = (0..hosts).map(pool).collect();
    drop(bed.observer.reset());
    let mut random = StdRng::seed_from_u64(bed.workload.size.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs(TTL.into()));
    let (started, seconds) = (Instant::now(), options.window_seconds);
    let progress = Progress::new("rotation", seconds as usize);
    let (mut points, mut shares) = (Vec::new(), Vec::new());
    let (mut last, mut late, mut looked_up, mut refused) = (0, 0, 0_u64, 0_u64);
    for second in 0..seconds {
        ticks.tick().await;
        let (mut asked, mut unknown) = (0_u64, 0_u64);
        for (host, pool) in pools.iter().enumerate() {
            let answer: Vec<IpAddr> = pool.iter().copied().sample(&mut random, PER_ANSWER);
            bed.dns.set_host(&Workload::host(host), &answer, TTL);
            // A pod gets the same answer at once, and connects to one of its addresses.
            for _ in 0..PODS {
                let policies = bed.workload.policies_of(host);
                let policy = policies[random.random_range(0..policies.len())];
                asked += 1;
                unknown += u64::from(!bed.observer.allows(policy, answer[random.random_range(0..answer.len())]));
            }
        }
        let revisions = bed.observer.revisions();
        points.push((second as f64, (revisions - last) as f64));
        shares.push((second as f64, unknown as f64 / asked as f64 * 100.0));
        if second + AFTERWARDS >= seconds {
            late += revisions - last;
        }
        (last, looked_up, refused) = (revisions, looked_up + asked, refused + unknown);
        progress.at(started.elapsed().as_secs() as usize);
    }
    progress.done();

    let mut figures = Figures { report: &mut report };
    figures.add("writes", "Revisions until the pools were learned", last as f64, "count");
    figures.add("late_writes", "Revisions in the last 30 s", late as f64, "count");
    let share = refused as f64 / looked_up as f64 * 100.0;
    figures.add("refused", "Lookups of pods whose address was not yet allowed", share, "%");
    let last_share = shares.last().map_or(f64::NAN, |(_, share)| *share);
    figures.add("refused_at_the_end", "The same in the last second", last_share, "%");
    for (id, title, y, points) in [
        ("rotation.writes_over_time", "Writes", axis("Revisions per second", ""), points),
        ("rotation.refused_over_time", "Not yet allowed", axis("Lookups of pods", "%"), shares),
    ] {
        report.plots.push(plot(id, title, axis("Time", "s"), y, vec![line(title, points, Style::Line)]));
    }
    Ok(report)
}
