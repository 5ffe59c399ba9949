//! Counters of the watches.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Which watch.
type Labels = [(&'static str, &'static str); 1];

/// Counters of the watches, labelled with the resource.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics {
    events: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    undecodable: Family<Labels, Counter>,
}

impl WatchMetrics {
    /// Registers the counters under the prefix `watch`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("watch");
        registry.register("events", "Events received, by resource", metrics.events.clone());
        registry.register("errors", "Watches or lists that ended with an error, by resource", metrics.errors.clone());
        registry.register(
            "undecodable",
            "Objects that could not be decoded and were skipped, by resource",
            metrics.undecodable.clone(),
        );
        metrics
    }

    pub(crate) fn event(&self, what: &'static str) {
        self.events.get_or_create(&[("resource", what)]).inc();
    }

    pub(crate) fn error(&self, what: &'static str) {
        self.errors.get_or_create(&[("resource", what)]).inc();
    }

    pub(crate) fn undecodable(&self, what: &'static str) {
        self.undecodable.get_or_create(&[("resource", what)]).inc();
    }
}
