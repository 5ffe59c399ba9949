//! Counters of the resolver.

use egress_domain::answer::Family as AddressFamily;
use egress_domain::lookups::{Ended, Lane, Stats};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];

/// From a cached answer nearby to the end of the second attempt.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0];

/// Counters of the resolver. No label holds the name of a host.
#[derive(Clone, Debug)]
pub struct ResolverMetrics {
    lookups: Family<Two, Counter>,
    pub(crate) cache_hits: Counter,
    pub(crate) seconds: Histogram,
    in_flight: Family<One, Gauge>,
    queued: Gauge,
    parked: Gauge,
    names: Gauge,
    servers: Gauge,
    servers_down: Gauge,
    fallback: Gauge,
}

impl ResolverMetrics {
    /// Registers the counters under the prefix `resolver`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lookups: Family::default(),
            cache_hits: Counter::default(),
            seconds: Histogram::new(SECONDS),
            in_flight: Family::default(),
            queued: Gauge::default(),
            parked: Gauge::default(),
            names: Gauge::default(),
            servers: Gauge::default(),
            servers_down: Gauge::default(),
            fallback: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("resolver");
        registry.register("lookups", "Lookups sent that ended, by family and outcome", metrics.lookups.clone());
        let hits = metrics.cache_hits.clone();
        registry.register("cache_hits", "First lookups of a host that a valid answer made needless", hits);
        let seconds = metrics.seconds.clone();
        registry.register_with_unit("lookup", "Time from sending a lookup to its result", Unit::Seconds, seconds);
        registry.register("in_flight", "Lookups without a result yet, by lane", metrics.in_flight.clone());
        registry.register("queued", "Lookups that are due and wait", metrics.queued.clone());
        registry.register("parked", "Failing lookups that wait for their server to answer", metrics.parked.clone());
        registry.register("names", "Names that are looked up", metrics.names.clone());
        registry.register("servers", "DNS servers that are asked", metrics.servers.clone());
        registry.register("servers_down", "DNS servers that answer nothing", metrics.servers_down.clone());
        let fallback = metrics.fallback.clone();
        registry.register("fallback_to_resolv_conf", "1 while no endpoint of the DNS Service is ready", fallback);
        metrics
    }

    pub(crate) fn ended(&self, family: AddressFamily, ended: Ended) {
        let labels = [("family", family_label(family)), ("outcome", ended.as_str())];
        self.lookups.get_or_create(&labels).inc();
    }

    pub(crate) fn fallback(&self, falls_back: bool) {
        self.fallback.set(falls_back.into());
    }

    /// Takes over the present state of the schedule.
    pub(crate) fn gauges(&self, stats: &Stats) {
        for (lane, count) in [(Lane::Normal, stats.normal), (Lane::Slow, stats.slow), (Lane::Probe, stats.probes)] {
            self.in_flight.get_or_create(&[("lane", lane.as_str())]).set(gauge(count));
        }
        self.queued.set(gauge(stats.queued));
        self.parked.set(gauge(stats.parked));
        self.names.set(gauge(stats.names));
        self.servers.set(gauge(stats.servers));
        self.servers_down.set(gauge(stats.servers_down));
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn family_label(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::V4 => "ipv4",
        AddressFamily::V6 => "ipv6",
    }
}

#[cfg(test)]
mod tests {
    use egress_domain::answer::LookupFailure;

    use super::*;

    #[test]
    fn the_state_of_the_schedule_is_told_under_the_prefix() {
        let mut registry = Registry::default();
        let metrics = ResolverMetrics::register(&mut registry);
        metrics.gauges(&Stats { slow: 7, parked: 3, servers: 2, servers_down: 1, ..Stats::default() });
        metrics.ended(AddressFamily::V6, Ended::Failure(LookupFailure::ServFail));
        metrics.fallback(true);
        let mut text = String::new();
        assert!(prometheus_client::encoding::text::encode(&mut text, &registry).is_ok());
        for line in [
            "resolver_lookups_total{family=\"ipv6\",outcome=\"servfail\"} 1",
            "resolver_in_flight{lane=\"slow\"} 7",
            "resolver_parked 3",
            "resolver_servers 2",
            "resolver_servers_down 1",
            "resolver_fallback_to_resolv_conf 1",
            "resolver_lookup_seconds_bucket",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
