//! Counters of the resolver.

use std::time::Duration;

use egress_domain::answer::{AnswerKind, Family as AddressFamily, LookupFailure};
use egress_domain::lookups::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::dns::DnsAnswer;

type Outcome = [(&'static str, &'static str); 2];
type Lane = [(&'static str, &'static str); 1];

/// Counters of the resolver. No name is a label: that would be one series per host.
#[derive(Clone, Debug)]
pub struct ResolverMetrics {
    lookups: Family<Outcome, Counter>,
    seconds: Histogram,
    in_flight: Family<Lane, Gauge>,
    queued: Gauge,
    parked: Gauge,
    names: Gauge,
    servers: Gauge,
    servers_down: Gauge,
    resolv_conf: Gauge,
}

impl ResolverMetrics {
    /// Registers the counters under the prefix `resolver`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lookups: Family::default(),
            // 1 ms to 8 s: a time-out with its retry is 4 s.
            seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            in_flight: Family::default(),
            queued: Gauge::default(),
            parked: Gauge::default(),
            names: Gauge::default(),
            servers: Gauge::default(),
            servers_down: Gauge::default(),
            resolv_conf: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("resolver");
        registry.register("lookups", "Lookups that ended, by family and outcome", metrics.lookups.clone());
        registry.register_with_unit("lookup", "Time of a lookup", Unit::Seconds, metrics.seconds.clone());
        registry.register("in_flight", "Lookups in flight, by lane", metrics.in_flight.clone());
        registry.register("queued", "Lookups that are due and wait for a lane", metrics.queued.clone());
        registry.register("parked", "Lookups that wait for their server to come back", metrics.parked.clone());
        registry.register("names", "Names that are looked up", metrics.names.clone());
        registry.register("servers", "DNS servers that are asked", metrics.servers.clone());
        registry.register("servers_down", "DNS servers that answer nothing", metrics.servers_down.clone());
        registry.register(
            "resolv_conf_fallback",
            "1 while the DNS Service has no ready endpoint and resolv.conf is asked instead",
            metrics.resolv_conf.clone(),
        );
        metrics
    }

    pub(crate) fn completed(&self, family: AddressFamily, result: &Result<DnsAnswer, LookupFailure>, took: Duration) {
        let family = match family {
            AddressFamily::V4 => "ipv4",
            AddressFamily::V6 => "ipv6",
        };
        let outcome = match result {
            Ok(answer) => match answer.kind {
                AnswerKind::Positive => "positive",
                AnswerKind::NoData => "nodata",
                AnswerKind::NxDomain => "nxdomain",
            },
            Err(failure) => failure.as_str(),
        };
        self.lookups.get_or_create(&[("family", family), ("outcome", outcome)]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn present(&self, stats: &Stats) {
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        for (lane, count) in [("normal", stats.normal), ("slow", stats.slow), ("probe", stats.probes)] {
            set(&self.in_flight.get_or_create(&[("lane", lane)]), count);
        }
        set(&self.queued, stats.queued);
        set(&self.parked, stats.parked);
        set(&self.names, stats.names);
        set(&self.servers, stats.servers);
        set(&self.servers_down, stats.servers_down);
    }

    pub(crate) fn fell_back(&self, fell_back: bool) {
        self.resolv_conf.set(i64::from(fell_back));
    }
}
