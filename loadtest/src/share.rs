//! What several replicas cost together, compared with one that does the same work alone.
//!
//! One run, three windows of the same work: one replica alone; the others beside it, which are members and hold nothing
//! yet: what each costs apart from its share of the work (its process, the watches that it must read, its renewals); then
//! the first has left, and the others have its work between them. They are the same processes in the last two windows.
//! No host is named in two namespaces, so the lookups are as many in all windows, and so are the writes: one for each change that
//! is seen. Addresses stay for the default retention, so the last window has more of them than the first: that is to its disadvantage.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::handover::bed::Bed;
use crate::handover::work::{self, Order, Pace};
use crate::handover::{Options as HandoverOptions, Size, report};
use crate::load::figures::MIB;
use crate::load::requests::{metric, metric_of};
use crate::load::window::used;
use crate::replica::Replica;

/// A newcomer holds nothing for a lease: long enough for a window.
const LEASE_SECONDS: u32 = 100;
/// After a start: lists have been read, and what that took is not counted.
const SETTLING: Duration = Duration::from_secs(15);
/// After shards were gained: their hosts are asked again early once (ADR 0022), and unused connections are closed.
const SETTLED: Duration = Duration::from_secs(100);
/// The TTL of the answers is a window, so that each window has one lookup of each host, whatever their moments; and first answers
/// of such intervals are asked again early, so that they are not all asked at once (ADR 0022).
const SHORTEST_WINDOW: u64 = 40;
/// For each policy that there is, between two changes of a host and of a spec: with 10,000 policies, a change each 100 ms. (A host is
/// in the more policies the more there are.) Much more work than it costs to be there, and less than the API server takes.
const CHANGE_EVERY: Duration = Duration::from_micros(10);
/// What the changes have asked for until a window begins is written by then.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);
/// The writes of two windows differ by less, or they cannot be compared.
const SAME_WORK: f64 = 0.05;
/// Memory goes up and down by megabytes within a second, and nothing tells when; only a mean can be compared.
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// All replicas together may cost so much more than one alone.
const MOST_CPU: f64 = 1.10;
const MOST_MEMORY: f64 = 1.25;
/// Metrics of a replica, and perhaps one label: events of its watches, renewals, NetworkPolicies and statuses written.
const COUNTED: [(&str, Option<(&str, &str)>); 4] = [
    ("egress_watch_events_total", None),
    ("egress_shards_renewals_total", None),
    ("egress_writer_writes_total", Some(("kind", "apply"))),
    ("egress_writer_writes_total", Some(("kind", "status"))),
];
/// The work does not become less by being shared: below this the noise is more than the work.
const LEAST_CPU: f64 = 0.5;

/// Compare the CPU time and memory of several replicas with those of one
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How much there is of everything
    #[command(flatten)]
    pub size: Size,
    /// Length of each window
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub window_seconds: u64,
}

/// CPU time and memory of a window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident memory, the mean of the window.
    pub resident_mib: f64,
    /// DNS queries of the window, those of other replicas included.
    pub lookups: u64,
    /// Events that the watches of these replicas brought.
    pub watch_events: f64,
    /// Renewals of their Leases.
    pub renewals: f64,
    /// NetworkPolicies that they wrote.
    pub writes: f64,
    /// Statuses that they wrote: one that waits is replaced by a newer one, so their number depends on when.
    pub statuses: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Replicas of the last window.
    pub replicas: usize,
    /// One replica, with all of the work.
    pub one: Cost,
    /// The others together, as members without any of it.
    pub idle: Cost,
    /// The others together, with all of it between them.
    pub all: Cost,
    /// CPU time of all over that of one, each less what a member without work costs.
    pub cpu_ratio: f64,
    /// The same of memory.
    pub memory_ratio: f64,
}

impl Report {
    /// Whether the replicas together cost what they may.
    ///
    /// # Errors
    /// When they cost more.
    pub fn check(&self) -> Result<()> {
        let Self { cpu_ratio, memory_ratio, one, all, .. } = self;
        let same = (all.writes / one.writes - 1.0).abs() <= SAME_WORK;
        let fewer = all.statuses < one.statuses * (1.0 - SAME_WORK);
        ensure!(!fewer, "{} and {} statuses are not the same work; is the machine quiet?", one.statuses, all.statuses);
        ensure!(same, "{} and {} writes are not the same work; is the machine quiet?", one.writes, all.writes);
        ensure!(*cpu_ratio >= LEAST_CPU, "CPU: {cpu_ratio:.2} times that of one is noise; is the machine quiet?");
        ensure!(*cpu_ratio <= MOST_CPU, "CPU: {cpu_ratio:.2} times that of one, not {MOST_CPU}");
        ensure!(*memory_ratio <= MOST_MEMORY, "memory: {memory_ratio:.2} times that of one, not {MOST_MEMORY}");
        Ok(())
    }
}

/// Runs the three windows.
///
/// # Errors
/// When the replicas do not come to share the work.
pub async fn run(options: Options) -> Result<Report> {
    let most = u64::from(LEASE_SECONDS) - 2 * SETTLING.as_secs();
    let allowed = SHORTEST_WINDOW..=most;
    ensure!(
        allowed.contains(&options.window_seconds),
        "--window-seconds is {SHORTEST_WINDOW} to {most}: a newcomer gets its share then"
    );
    let mut bed = Bed::start(&HandoverOptions {
        handovers: 0,
        // One more, for the one that is alone at first.
        size: Size { replicas: options.size.replicas + 1, ..options.size },
        lease_duration_seconds: LEASE_SECONDS,
        seed: 1,
        only: Vec::new(),
        unfenced: false,
        program: None,
        pace: Pace {
            hosts: options.size.namespaces,
            ttl: u32::try_from(options.window_seconds)?,
            every: CHANGE_EVERY * u32::try_from(options.size.policies)?,
            order: Order::InTurn,
        },
    })
    .await?;
    // The bed starts all of them; here they come one after the other.
    bed.replicas.clear();
    bed.forget_table().await?;
    let window = Duration::from_secs(options.window_seconds);
    let first = bed.new_pod(0).await?;
    bed.replicas.push(first);
    bed.whole(bed.lease * 3).await?;
    report::converged(&bed).await?;
    let changes = work::Work::start(&bed);
    tokio::time::sleep(SETTLED).await;
    bed.nothing_pending(WRITTEN_WITHIN).await?;

    eprintln!("one replica, {} s", options.window_seconds);
    let one = measure(&bed, 0..1, window).await?;
    let replicas = options.size.replicas;
    for number in 1..=replicas {
        let replica = bed.new_pod(number).await?;
        bed.replicas.push(replica);
    }
    tokio::time::sleep(SETTLING).await;
    eprintln!("{replicas} members that hold nothing beside it, {} s", options.window_seconds);
    let idle = measure(&bed, 1..replicas + 1, window).await?;
    let written = idle.writes + idle.statuses;
    ensure!(written == 0.0, "newcomers wrote {written} objects: they are to hold nothing yet");

    // First it shares with them, then it leaves: so none of them ever holds more than its share, whose memory would stay.
    eprintln!("waiting until {replicas} replicas share the work");
    bed.whole(bed.lease * 5).await?;
    let first = bed.replicas.remove(0);
    first.signal("TERM")?;
    bed.whole(bed.lease * 5).await?;
    tokio::time::sleep(SETTLED).await;
    bed.nothing_pending(WRITTEN_WITHIN).await?;
    eprintln!("{replicas} replicas, {} s", options.window_seconds);
    let all = measure(&bed, 0..replicas, window).await?;
    drop(changes.stop().await);

    let count = replicas as f64;
    let ratio = |all: f64, one: f64, idle: f64| (all - idle) / (one - idle / count);
    Ok(Report {
        replicas,
        one,
        idle,
        all,
        cpu_ratio: ratio(all.cpu_seconds, one.cpu_seconds, idle.cpu_seconds),
        memory_ratio: ratio(all.resident_mib, one.resident_mib, idle.resident_mib),
    })
}

/// These replicas together, over a window.
async fn measure(bed: &Bed, which: std::ops::Range<usize>, window: Duration) -> Result<Cost> {
    let replicas = bed.replicas.get(which).context("the replicas")?;
    let ids: Vec<u32> = replicas.iter().map(Replica::id).collect();
    let counted = counted(replicas).await?;
    let (asked, before) = (bed.dns.total(), used(&ids));
    let since = Instant::now();
    let mut memory = Vec::new();
    while since.elapsed() < window {
        tokio::time::sleep(MEMORY_EVERY.min(window.saturating_sub(since.elapsed()))).await;
        memory.push(used(&ids).memory as f64);
    }
    let now = used(&ids);
    let cpu_seconds = (now.cpu - before.cpu).as_secs_f64() * window.as_secs_f64() / since.elapsed().as_secs_f64();
    ensure!(cpu_seconds > 0.0, "no CPU time was counted");
    let lookups = bed.dns.total() - asked;
    let [watch_events, renewals, writes, statuses] = self::counted(replicas).await?;
    Ok(Cost {
        cpu_seconds,
        resident_mib: memory.iter().sum::<f64>() / memory.len() as f64 / MIB,
        lookups,
        watch_events: watch_events - counted[0],
        renewals: renewals - counted[1],
        writes: writes - counted[2],
        statuses: statuses - counted[3],
    })
}

/// What these replicas have counted themselves since their starts, all together.
async fn counted(replicas: &[Replica]) -> Result<[f64; 4]> {
    let mut sums = [0.0; 4];
    for replica in replicas {
        let page = replica.pages().page("/metrics").await?;
        for (sum, (name, label)) in sums.iter_mut().zip(COUNTED) {
            *sum += label.map_or_else(|| metric(&page, name), |label| metric_of(&page, name, label));
        }
    }
    Ok(sums)
}
