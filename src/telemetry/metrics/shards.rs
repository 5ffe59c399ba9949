//! Counters of the shards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use egress_domain::shard::ShardId;
use egress_domain::shard::fence::Moment;
use egress_domain::shard::member::{Member, ProbeAnswer};
use egress_domain::shard::stamp::Stamp;
use egress_domain::time::Instant;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type One = [(&'static str, &'static str); 1];

/// From a quiet API server to a renewal's time-out, and to a lease.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// Counters of the shards.
#[derive(Clone, Debug)]
pub struct ShardMetrics {
    owned: Gauge,
    unowned: Gauge,
    members: Gauge,
    transitions: Family<One, Counter>,
    start_seconds: Histogram,
    fence_active: Gauge,
    probes: Family<One, Counter>,
    fence_lag: Histogram,
    takeovers: Counter,
    takeover_seconds: Histogram,
    lapses: Counter,
    renewals: Family<One, Counter>,
    renew_seconds: Histogram,
    renew_lateness: Histogram,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    gained: Vec<(Stamp, Instant)>,
    /// Shards of a dead replica that do not act yet, and its last sign of life.
    taken_over: Vec<(ShardId, Instant)>,
    /// The first of the probes that have not been accepted yet.
    probing_since: Option<Instant>,
}

impl ShardMetrics {
    /// Registers the counters under the prefix `shards`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            owned: Gauge::default(),
            unowned: Gauge::default(),
            members: Gauge::default(),
            transitions: Family::default(),
            start_seconds: Histogram::new(SECONDS),
            fence_active: Gauge::default(),
            probes: Family::default(),
            fence_lag: Histogram::new(SECONDS),
            takeovers: Counter::default(),
            takeover_seconds: Histogram::new(SECONDS),
            lapses: Counter::default(),
            renewals: Family::default(),
            renew_seconds: Histogram::new(SECONDS),
            renew_lateness: Histogram::new(SECONDS),
            told: Arc::default(),
        };
        let registry = registry.sub_registry_with_prefix("shards");
        registry.register("owned", "Shards whose policies act in this replica", metrics.owned.clone());
        registry.register("unowned", "Shards of the table that no replica holds", metrics.unowned.clone());
        registry.register("members", "Replicas in the table", metrics.members.clone());
        registry.register("transitions", "Shards gained, resumed, handed over, lost", metrics.transitions.clone());
        let start = metrics.start_seconds.clone();
        registry.register_with_unit("start", "From gaining a shard to its policies acting", Unit::Seconds, start);
        let active = metrics.fence_active.clone();
        registry.register("fence_active", "1 while the API server refuses stale writes", active);
        registry.register("fence_probes", "Dry runs after a gain, by answer", metrics.probes.clone());
        let lag = metrics.fence_lag.clone();
        let about = "From the first dry run after a gain until the API server takes its stamp";
        registry.register_with_unit("fence_lag", about, Unit::Seconds, lag);
        let takeover = metrics.takeover_seconds.clone();
        let about = "From the last sign of life of a dead replica until a shard of it that was taken here acts";
        registry.register_with_unit("takeover", about, Unit::Seconds, takeover);
        registry.register("takeovers", "Dead replicas that this one removed", metrics.takeovers.clone());
        registry.register("lapses", "Times this replica stopped writing for lack of renewal", metrics.lapses.clone());
        registry.register("renewals", "Renewals of the own Lease, by result", metrics.renewals.clone());
        let took = metrics.renew_seconds.clone();
        registry.register_with_unit("renew", "Time that a renewal took", Unit::Seconds, took);
        let late = metrics.renew_lateness.clone();
        registry.register_with_unit("renew_lateness", "How late a renewal was sent", Unit::Seconds, late);
        metrics
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Nothing panics while it holds the lock.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn renewed(&self, done: bool, took: Duration) {
        self.renewals.get_or_create(&[("result", if done { "ok" } else { "failed" })]).inc();
        self.renew_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn renewal_sent(&self, late: Duration) {
        self.renew_lateness.observe(late.as_secs_f64());
    }

    pub(crate) fn transition(&self, what: &'static str, shards: usize) {
        self.transitions.get_or_create(&[("kind", what)]).inc_by(u64::try_from(shards).unwrap_or_default());
    }

    pub(crate) fn gained(&self, stamps: &[Stamp], now: Moment) {
        self.transition("gained", stamps.len());
        let mut told = self.told();
        told.gained.extend(stamps.iter().map(|stamp| (*stamp, now.boot)));
    }

    /// Shards that are not ours any more.
    pub(crate) fn gone(&self, how: &'static str, shards: &[ShardId]) {
        self.transition(how, shards.len());
        let mut told = self.told();
        told.gained.retain(|(stamp, _)| !shards.contains(&stamp.shard));
        told.taken_over.retain(|(shard, _)| !shards.contains(shard));
        told.probing_since = None;
    }

    pub(crate) fn started(&self, stamps: &[Stamp], now: Moment) {
        let mut told = self.told();
        told.gained.retain(|(stamp, since)| {
            let started = stamps.contains(stamp);
            if started {
                self.start_seconds.observe(now.boot.since(*since).as_secs_f64());
            }
            !started
        });
        told.taken_over.retain(|(shard, since)| {
            let started = stamps.iter().any(|stamp| stamp.shard == *shard);
            if started {
                self.takeover_seconds.observe(now.boot.since(*since).as_secs_f64());
            }
            !started
        });
    }

    pub(crate) fn fence(&self, active: bool) {
        self.fence_active.set(i64::from(active));
    }

    pub(crate) fn probe_sent(&self, now: Moment) {
        let mut told = self.told();
        told.probing_since.get_or_insert(now.boot);
    }

    pub(crate) fn probed(&self, answer: ProbeAnswer, now: Moment) {
        if answer == ProbeAnswer::Accepted {
            let mut told = self.told();
            if let Some(since) = told.probing_since.take() {
                self.fence_lag.observe(now.boot.since(since).as_secs_f64());
            }
        }
        let answer = match answer {
            ProbeAnswer::Accepted => "accepted",
            ProbeAnswer::Fenced => "fenced",
            ProbeAnswer::Unknown => "unknown",
        };
        self.probes.get_or_create(&[("answer", answer)]).inc();
    }

    pub(crate) fn took_over(&self, shards: &[ShardId], silent_since: Instant) {
        self.takeovers.inc();
        let mut told = self.told();
        told.taken_over.extend(shards.iter().map(|shard| (*shard, silent_since)));
    }

    pub(crate) fn lapsed(&self) {
        self.lapses.inc();
    }

    pub(crate) fn state(&self, member: &Member) {
        self.owned.set(gauge(member.active().count()));
        if let Some(known) = member.snapshot() {
            self.unowned.set(gauge(known.table.free().count()));
            self.members.set(gauge(known.table.members.len()));
        }
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
