//! Counters of the router and of all policy actors together.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the policies. None has the name of a policy as a label: that would be one series per policy.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    /// Policy actors that run.
    pub running: Gauge,
    /// Restarts of policy actors after a panic.
    pub restarts: Counter,
    /// Inputs that policy machines have taken.
    pub steps: Counter,
    events: Family<[(&'static str, &'static str); 1], Counter>,
}

impl PolicyMetrics {
    /// Registers the counters under the prefix `policy`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("policy");
        registry.register("actors", "Policy actors that run", metrics.running.clone());
        registry.register("restarts", "Policy actors started again after a panic", metrics.restarts.clone());
        registry.register("steps", "Inputs taken by policy machines", metrics.steps.clone());
        registry.register("events", "Kubernetes Events asked for, by reason", metrics.events.clone());
        metrics
    }

    pub(crate) fn event(&self, reason: &'static str) {
        self.events.get_or_create(&[("reason", reason)]).inc();
    }
}
