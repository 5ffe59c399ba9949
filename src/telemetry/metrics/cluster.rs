//! What the watches of the cluster around us cannot see.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of the cluster facts, beside those of every watch.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetrics {
    unavailable: Family<[(&'static str, &'static str); 1], Gauge>,
    pub(crate) changes: Counter,
    pub(crate) dns_servers: Gauge,
}

impl ClusterMetrics {
    /// Registers the metrics under the prefix `cluster`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("cluster");
        registry.register(
            "source_unavailable",
            "1 while a resource is forbidden or not served, so that guard rail or DNS path may lack it; by resource",
            metrics.unavailable.clone(),
        );
        registry.register("changes", "Changes of DNS path, guard rail or families", metrics.changes.clone());
        registry.register("dns_servers", "Ready endpoints of the DNS Service", metrics.dns_servers.clone());
        metrics
    }

    pub(crate) fn set_unavailable(&self, resource: &'static str, is: bool) {
        self.unavailable.get_or_create(&[("resource", resource)]).set(is.into());
    }
}
