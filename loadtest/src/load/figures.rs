//! Putting what was measured into the report.

use loadtest_report::{Latency, Report};

use super::observer::Latencies;
use super::timeline::Timeline;
use super::window::Cost;

/// Bytes of a KiB and of a MiB.
pub const KIB: f64 = 1024.0;
pub const MIB: f64 = 1024.0 * KIB;
const QUANTILES: [f64; 8] = [0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999];

/// Default of `--min-refresh-seconds`.
const LEAST_REFRESH: u32 = 10;

/// Adds figures of one scenario to a report.
pub struct Figures<'a> {
    /// Where to.
    pub report: &'a mut Report,
}

impl Figures<'_> {
    /// Adds a number; its id is `SCENARIO.NAME`.
    pub fn add(&mut self, name: &str, title: &str, value: f64, unit: &str) {
        let id = format!("{}.{name}", self.report.scenario);
        self.report.add_figure(&id, title, value, unit);
    }

    /// Adds latencies as a distribution, and the median, p99 and maximum as figures in seconds.
    pub fn latencies(&mut self, name: &str, title: &str, latencies: &Latencies) {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        let quantiles = QUANTILES.iter().map(|q| (*q, millis(latencies.value_at_quantile(*q)))).collect();
        let id = format!("{}.{name}", self.report.scenario);
        let (count, max) = (latencies.len(), millis(latencies.max()));
        self.report.latencies.push(Latency { id, title: title.to_owned(), count, quantiles, max });
        for (suffix, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            // Nothing measured is not a latency of nothing.
            let measured = (count > 0).then(|| millis(latencies.value_at_quantile(q)) / 1_000.0);
            let seconds = measured.unwrap_or(f64::NAN);
            self.add(&format!("{name}_{suffix}"), &format!("{title}, {suffix}"), seconds, "s");
        }
    }

    /// Adds the p99 as a share of what a TTL allows: the TTL (or the least refresh interval) and a second.
    pub fn beyond_ttl(&mut self, latencies: &Latencies, ttl: u32) {
        let bound = f64::from(ttl.max(LEAST_REFRESH)) + 1.0;
        let p99 = if latencies.is_empty() { f64::NAN } else { latencies.value_at_quantile(0.99) as f64 / 1e6 };
        self.add("p99_beyond_ttl", "The same p99, relative to TTL + 1 s", p99 / bound, "ratio");
    }

    /// Adds the longest queues.
    pub fn queues(&mut self, timeline: &Timeline) {
        let [writes, lookups] = timeline.most_waiting();
        self.add("writes_waiting", "Writes that waited, at most (read once a second)", writes, "count");
        self.add("lookups_waiting", "Lookups that were due and waited, at most (read once a second)", lookups, "count");
    }

    /// Adds what a stretch cost.
    pub fn cost(&mut self, cost: &Cost, policies: usize) {
        self.add("controller_cpu", "CPU of the controller", cost.controller_cpu, "s");
        let share = cost.controller_cpu / cost.seconds * 100.0;
        self.add("controller_core", "CPU of the controller, of one core", share, "%");
        if let (Some(api_server), Some(etcd)) = (cost.api_server_cpu, cost.etcd_cpu) {
            self.add("api_server_cpu", "CPU of the API server", api_server, "s");
            self.add("etcd_cpu", "CPU of etcd", etcd, "s");
            let ratio = cost.controller_cpu / (api_server + etcd);
            self.add("cpu_ratio", "CPU of the controller, relative to API server and etcd", ratio, "ratio");
        }
        self.add("memory", "Resident memory of the controller at the end", cost.memory as f64 / MIB, "MiB");
        self.add("peak_memory", "Resident memory of the controller at its most", cost.peak_memory as f64 / MIB, "MiB");
        let writes = cost.network_policy_writes();
        self.add("network_policy_writes", "Writes of NetworkPolicies", writes as f64, "count");
        self.add("status_writes", "Writes of statuses", cost.status_writes() as f64, "count");
        let requests = cost.policy_requests();
        self.add("requests", "Requests about policies, NetworkPolicies and Events", requests as f64, "count");
        let each = requests as f64 / policies as f64;
        self.add("requests_per_policy", "Requests per policy", each, "ratio");
        self.add("throttled", "Requests answered with 429", cost.requests.answered("429") as f64, "count");
        if let Some(late) = cost.renewals_late {
            self.add(
                "renewals_late",
                "99 of 100 renewals of the Lease since the start were at most so late",
                late,
                "s",
            );
        }
        let watched = cost.requests.watched as f64 / MIB;
        self.add("watched", "Bytes of watch events, to all watchers", watched, "MiB");
        self.add("lookups", "DNS queries", cost.queries() as f64, "count");
        let distinct = cost.lookups.len();
        self.add("lookups_distinct", "Distinct names and types among them", distinct as f64, "count");
        let kinds = cost
            .requests
            .counts
            .iter()
            .map(|((verb, resource, code), count)| format!("{verb} {resource} {code}: {count}"));
        self.report.notes.push(format!("Requests by kind: {}.", kinds.collect::<Vec<_>>().join(", ")));
    }
}
