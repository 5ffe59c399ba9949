//! Counters of the writer.

use std::time::Duration;

use egress_domain::write::{Lane, WriteOutcome, WriteRequest};
use egress_domain::writes::{Stats, TransientKind};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// From a no-op on an idle API server to the default time-out.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counters of the writer. No label holds the name of an object.
#[derive(Clone, Debug)]
pub struct WriterMetrics {
    writes: Family<Two, Counter>,
    retries: Family<One, Counter>,
    seconds: Histogram,
    pending: Family<One, Gauge>,
    in_flight: Gauge,
    concurrency_limit: Gauge,
    unreachable: Gauge,
    coalesced: Counter,
    throttled: Counter,
    dropped_events: Counter,
}

impl WriterMetrics {
    /// Registers the counters under the prefix `writer`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            writes: Family::default(),
            retries: Family::default(),
            seconds: Histogram::new(SECONDS),
            pending: Family::default(),
            in_flight: Gauge::default(),
            concurrency_limit: Gauge::default(),
            unreachable: Gauge::default(),
            coalesced: Counter::default(),
            throttled: Counter::default(),
            dropped_events: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("writer");
        registry.register("writes", "Requests with a final answer, by kind and outcome", metrics.writes.clone());
        registry.register("retries", "Requests that failed for the moment, by reason", metrics.retries.clone());
        let seconds = metrics.seconds.clone();
        registry.register_with_unit("write", "Time from sending a request to its answer", Unit::Seconds, seconds);
        registry.register("pending", "Writes that wait, by lane", metrics.pending.clone());
        registry.register("in_flight", "Requests without an answer yet", metrics.in_flight.clone());
        let limit = metrics.concurrency_limit.clone();
        registry.register("concurrency_limit", "Requests that may be in flight; adapts to the API server", limit);
        registry.register("unreachable", "1 while the API server cannot be reached", metrics.unreachable.clone());
        registry.register("coalesced", "Writes that a newer one of their object replaced", metrics.coalesced.clone());
        registry.register("throttled", "Answers 429 of the API server", metrics.throttled.clone());
        let dropped = metrics.dropped_events.clone();
        registry.register("dropped_events", "Events dropped because too many were pending", dropped);
        metrics
    }

    pub(crate) fn finished(&self, kind: &'static str, outcome: &WriteOutcome, took: Duration) {
        self.writes.get_or_create(&[("kind", kind), ("outcome", outcome_label(outcome))]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn failed(&self, reason: TransientKind, took: Duration) {
        self.retries.get_or_create(&[("reason", reason.as_str())]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Takes over the queue's own counts; `before` are those of the last time.
    pub(crate) fn queue(&self, before: &Stats, now: &Stats) {
        for lane in Lane::ALL {
            let count = now.pending.get(&lane).copied().unwrap_or_default();
            self.pending.get_or_create(&[("lane", lane_label(lane))]).set(gauge(count));
        }
        self.in_flight.set(gauge(now.in_flight));
        self.concurrency_limit.set(gauge(now.limit));
        self.unreachable.set(now.unreachable.into());
        self.coalesced.inc_by(now.coalesced.saturating_sub(before.coalesced));
        self.throttled.inc_by(now.throttled.saturating_sub(before.throttled));
        self.dropped_events.inc_by(now.dropped_events.saturating_sub(before.dropped_events));
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn lane_label(lane: Lane) -> &'static str {
    match lane {
        Lane::Spec => "spec",
        Lane::Added => "added",
        Lane::Expired => "expired",
        Lane::Checkpoint => "checkpoint",
        Lane::Status => "status",
    }
}

pub(crate) fn kind(request: &WriteRequest) -> &'static str {
    match request {
        WriteRequest::Create(_) => "create",
        WriteRequest::Apply(_) => "apply",
        WriteRequest::RepairOwners(_) => "repair_owners",
        WriteRequest::Read => "read",
        WriteRequest::Delete { .. } => "delete",
        WriteRequest::Status { .. } => "status",
        WriteRequest::RemoveKopf => "remove_kopf",
        WriteRequest::Event(_) => "event",
    }
}

pub(crate) fn outcome_label(outcome: &WriteOutcome) -> &'static str {
    match outcome {
        WriteOutcome::Written(_) => "written",
        WriteOutcome::Read(_) => "read",
        WriteOutcome::AlreadyExists => "already_exists",
        WriteOutcome::Stale => "stale",
        WriteOutcome::NamespaceGone => "namespace_gone",
        WriteOutcome::Rejected(_) => "rejected",
        WriteOutcome::TooLarge(_) => "too_large",
        WriteOutcome::Fenced => "fenced",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_the_queue_are_added_once() {
        let mut registry = Registry::default();
        let metrics = WriterMetrics::register(&mut registry);
        let first = Stats { coalesced: 2, in_flight: 1, ..Stats::default() };
        let second = Stats { coalesced: 5, throttled: 1, ..Stats::default() };
        metrics.queue(&Stats::default(), &first);
        metrics.queue(&first, &second);
        metrics.queue(&second, &second);
        assert_eq!((metrics.coalesced.get(), metrics.throttled.get(), metrics.in_flight.get()), (5, 1, 0));
        let mut text = String::new();
        assert!(prometheus_client::encoding::text::encode(&mut text, &registry).is_ok());
        for name in ["writer_coalesced_total 5", "writer_pending{lane=\"spec\"} 0", "writer_write_seconds_bucket"] {
            assert!(text.contains(name), "{name} is missing in {text}");
        }
    }
}
