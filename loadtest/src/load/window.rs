//! What a stretch of a scenario cost: CPU time, memory, requests, lookups.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use egress_testbed::control_plane::Usage;
use egress_testbed::dns::RecordType;

use super::bed::Bed;
use super::cluster::ServerUsage;
use super::requests::{Requests, quantile};

/// The beginning of a stretch.
pub struct Window {
    started: Instant,
    controller: Used,
    /// Of processes that have ended since.
    carried: Used,
    servers: Option<ServerUsage>,
    requests: Requests,
    lookups: BTreeMap<(String, RecordType), u64>,
}

/// What the controller's processes have used, all together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// CPU time.
    pub cpu: Duration,
    /// Resident bytes.
    pub memory: u64,
    /// The most there were, per process.
    pub peak: u64,
}

/// What it cost.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Length.
    pub seconds: f64,
    /// CPU seconds of the controller.
    pub controller_cpu: f64,
    /// CPU seconds of the API server; none where it is elsewhere.
    pub api_server_cpu: Option<f64>,
    /// CPU seconds of etcd.
    pub etcd_cpu: Option<f64>,
    /// Resident memory of the controller at the end, in bytes.
    pub memory: u64,
    /// Its most so far.
    pub peak_memory: u64,
    /// Requests to the API server.
    pub requests: Requests,
    /// DNS queries by name and type.
    pub lookups: BTreeMap<(String, RecordType), u64>,
    /// 99 of 100 renewals of Leases were sent no later than so many seconds after they were due, since the replicas started.
    pub renewals_late: Option<f64>,
}

/// What these processes have used; one that has ended counts for nothing.
#[must_use]
pub fn used(ids: &[u32]) -> Used {
    let all = ids.iter().filter_map(|id| Usage::of(*id).ok());
    all.fold(Used::default(), |sum, one| Used {
        cpu: sum.cpu + one.cpu,
        memory: sum.memory + one.memory,
        peak: sum.peak + one.peak_memory,
    })
}

impl Window {
    /// Begins.
    ///
    /// # Errors
    /// When the API server's metrics cannot be read.
    pub async fn open(bed: &Bed) -> Result<Self> {
        Ok(Self {
            requests: Requests::read(&bed.client).await?,
            servers: bed.cluster.used()?,
            controller: used(&bed.controller_ids()),
            carried: Used::default(),
            lookups: bed.dns.counts(),
            started: Instant::now(),
        })
    }

    /// Call it before a process is killed: what it has used counts.
    pub fn carry(&mut self, id: u32) {
        let used = used(&[id]);
        self.carried.cpu += used.cpu;
        self.carried.peak = self.carried.peak.max(used.peak);
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// As [`Window::open`], and when the controller has ended.
    pub async fn cost(&self, bed: &Bed) -> Result<Cost> {
        // One that has ended would cost nothing.
        bed.runs()?;
        let seconds = self.started.elapsed().as_secs_f64();
        let controller = used(&bed.controller_ids());
        let servers = self.servers.zip(bed.cluster.used()?);
        let cpu = |of: fn(&ServerUsage) -> Usage| {
            servers.as_ref().map(|(before, now)| (of(now).cpu.saturating_sub(of(before).cpu)).as_secs_f64())
        };
        let before = |key: &(String, RecordType)| self.lookups.get(key).copied().unwrap_or_default();
        let lookups = bed.dns.counts().into_iter().map(|(key, count)| (key.clone(), count - before(&key)));
        Ok(Cost {
            seconds,
            controller_cpu: (self.carried.cpu + controller.cpu).saturating_sub(self.controller.cpu).as_secs_f64(),
            api_server_cpu: cpu(|used| used.api_server),
            etcd_cpu: cpu(|used| used.etcd),
            memory: controller.memory,
            peak_memory: controller.peak.max(self.carried.peak),
            requests: Requests::read(&bed.client).await?.since(&self.requests),
            lookups: lookups.filter(|(_, count)| *count > 0).collect(),
            renewals_late: renewals_late(bed).await,
        })
    }
}

/// The upper bound of the bucket in which the 99th percentile lies; none where nobody tells.
async fn renewals_late(bed: &Bed) -> Option<f64> {
    let mut late = None;
    for replica in &bed.replicas {
        let page = replica.pages().page("/metrics").await.ok()?;
        let found = quantile(&page, "egress_shards_renew_lateness_seconds", 0.99)?;
        late = Some(found.max(late.unwrap_or(0.0)));
    }
    late
}

impl Cost {
    /// DNS queries.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.lookups.values().sum()
    }

    /// Objects that were created, and changes of NetworkPolicies and of statuses: what the API server took.
    #[must_use]
    pub fn taken(&self) -> (u64, u64, u64) {
        let of = |verbs: &[&str], resource: &str, code: &str| -> u64 {
            verbs.iter().map(|verb| self.requests.with_code(verb, resource, code)).sum()
        };
        let created = of(&["POST", "APPLY", "PATCH"], "networkpolicies", "201");
        let changed = of(&["PUT", "PATCH", "APPLY"], "networkpolicies", "200");
        (created, changed, of(&["PUT", "PATCH", "APPLY"], "egresspolicies/status", "200"))
    }

    /// Creates, applies and deletes of NetworkPolicies, whatever came of them.
    #[must_use]
    pub fn network_policy_writes(&self) -> u64 {
        ["POST", "PUT", "PATCH", "APPLY", "DELETE"].iter().map(|verb| self.requests.of(verb, "networkpolicies")).sum()
    }

    /// Writes of the status of policies.
    #[must_use]
    pub fn status_writes(&self) -> u64 {
        ["PUT", "PATCH", "APPLY"].iter().map(|verb| self.requests.of(verb, "egresspolicies/status")).sum()
    }

    /// Events that were made.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.requests.of("POST", "events")
    }

    /// Requests of the controller that concern policies, their NetworkPolicies and default denies.
    #[must_use]
    pub fn policy_requests(&self) -> u64 {
        ["networkpolicies", "egresspolicies/status", "egresspolicies", "events"]
            .iter()
            .map(|resource| self.requests.of("", resource))
            .sum()
    }
}
