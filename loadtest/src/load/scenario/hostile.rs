//! A third of the names are dead, slow or huge: the others must not notice.

use std::time::{Duration, Instant};

use anyhow::Result;
use egress_testbed::dns::{RecordType, Script};
use loadtest_report::Report;
use std::net::{IpAddr, Ipv4Addr};

use super::{limit_to_answers, patience};
use crate::load::bed::Bed;
use crate::load::figures::Figures;
use crate::load::options::Options;
use crate::load::over_time::latency;
use crate::load::progress::Progress;
use crate::load::timeline::Timeline;
use crate::load::window::{Window, used};
use crate::load::workload::Workload;

/// A slow name's answer takes so long: longer than a query is waited for.
const SLOW: Duration = Duration::from_secs(3);
/// Addresses of a huge one.
const HUGE: usize = 200;
/// Live hosts whose answer changes, per second.
const CHANGES: f64 = 1.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Dead,
    Slow,
    Huge,
}

fn kind(host: usize) -> Kind {
    match host % 9 {
        0 => Kind::Dead,
        3 => Kind::Slow,
        6 => Kind::Huge,
        _ => Kind::Live,
    }
}

/// Addresses of a huge name: a block of RFC 6598's space for each.
fn huge(host: usize) -> Vec<IpAddr> {
    (0..HUGE).map(|number| IpAddr::V4(Ipv4Addr::from(0x6440_0000 + (host * 256 + number) as u32))).collect()
}

/// Runs it.
///
/// # Errors
/// When the policies do not become right.
pub async fn run(options: Options, mut report: Report) -> Result<Report> {
    let mut bed = Bed::open(&options).await?;
    let size = bed.workload.size.clone();
    let of_kind = |wanted: Kind| (0..size.hosts).filter(move |host| kind(*host) == wanted);
    for host in of_kind(Kind::Dead) {
        for record in [RecordType::A, RecordType::AAAA] {
            bed.dns.set(&Workload::host(host), record, Script::Silence);
        }
    }
    for host in of_kind(Kind::Slow) {
        let slow = Script::answer(bed.workload.answer(host, 0), size.ttl).delayed(SLOW);
        bed.dns.set(&Workload::host(host), RecordType::A, slow);
    }
    for host in of_kind(Kind::Huge) {
        bed.dns.set_host(&Workload::host(host), &huge(host), size.ttl);
    }
    limit_to_answers(&bed);
    for host in of_kind(Kind::Huge) {
        bed.observer.limit(bed.workload.policies_of(host).iter().map(|policy| (*policy, huge(host))));
    }
    bed.fill().await?;

    let start = bed.start_controller().await?;
    for host in (0..size.hosts).filter(|host| kind(*host) != Kind::Live) {
        bed.observer.want_no_more(bed.workload.policies_of(host), &bed.workload.answer(host, 0));
    }
    bed.settled("live names of all policies", patience(size.policies)).await?;
    let started = start.elapsed();
    Progress::wait("settling", Duration::from_secs(u64::from(size.ttl).min(60))).await;
    let first = bed.observer.reset();

    let (timeline, since) = (Timeline::start(&bed), Instant::now());
    let window = Window::open(&bed).await?;
    let memory = used(&bed.controller_ids()).memory;
    let hosts: Vec<usize> = of_kind(Kind::Live).collect();
    let progress = Progress::new("live names change", options.window_seconds as usize);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / CHANGES));
    for second in 0..options.window_seconds {
        ticks.tick().await;
        bed.change(hosts[second as usize * 7 % hosts.len()]);
        progress.at(second as usize);
    }
    progress.done();
    bed.settled("the last changes", patience(size.policies)).await?;
    let counts = bed.observer.reset();
    let cost = window.cost(&bed).await?;

    let mut figures = Figures { report: &mut report };
    figures.add("live_seconds", "Live names of every policy allowed after the start", started.as_secs_f64(), "s");
    figures.latencies("committed", "From a live name's changed answer to the NetworkPolicy", &counts.latencies());
    figures.beyond_ttl(&counts.latencies(), size.ttl);
    let open = [first.open, counts.open.clone()].concat();
    figures.add("open", "Revisions that allowed more than was ever answered", open.len() as f64, "count");
    figures.add("removed", "Addresses removed", (first.removed + counts.removed) as f64, "count");
    figures.cost(&cost, size.policies);
    figures.queues(&timeline);
    let growth = cost.memory as f64 / memory as f64;
    figures.add("memory_growth", "Memory at the end, relative to the beginning of the window", growth, "ratio");
    let (addresses, most) = bed.observer.addresses();
    figures.add("addresses", "Addresses allowed, of all policies", addresses as f64, "count");
    figures.add("addresses_most", "Addresses of the largest policy", most as f64, "count");
    report.notes.extend(open);
    report.plots.push(latency("hostile", &counts, since));
    report.plots.extend(timeline.plots("hostile"));
    Ok(report)
}
