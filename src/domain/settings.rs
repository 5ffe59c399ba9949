//! What flags decide, as the domain sees it. Every interval and bound has its shipped value here, with its reason.

use std::time::Duration;

use crate::ports::{PortSet, Protocol};

/// Which `egress-{name}` without our owner reference may be taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// Those of the Python operator's exact shape.
    #[default]
    Seed,
    /// None, except those that carry the adopt annotation.
    Never,
}

/// What happens to the addresses of a host without a successful answer for `max_stale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StaleAction {
    /// They stay allowed and the condition Stale is set.
    #[default]
    Keep,
    /// They go.
    Drop,
}

/// Settings of the policy machines; one set for the whole process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a spec without `refreshIntervalSeconds`; the Python operator's default.
    pub default_refresh: Duration,
    /// For a spec without `retentionSeconds`; the Python operator's 7 days.
    pub default_retention: Duration,
    /// Upper bound of every retention, if the platform team sets one.
    pub max_retention: Option<Duration>,
    /// For a destination without ports.
    pub default_ports: PortSet,
    /// How long the first write of a policy waits for its hosts; long enough for one retry of a lost query.
    pub first_sight_deadline: Duration,
    /// Addresses of one host; CNIs degrade beyond some thousand entries.
    pub max_addresses_per_host: usize,
    /// (host, address) pairs of one policy; the book of so many fits its annotation.
    pub max_addresses_per_policy: usize,
    /// A host without a successful answer for so long is stale.
    pub max_stale: Duration,
    /// What staleness does.
    pub stale_action: StaleAction,
    /// Which foreign objects are taken over.
    pub adoption: Adoption,
    /// How often a name conflict, a rejected write and a contested object are tried again at least.
    pub retry_interval: Duration,
    /// Least time between two status writes of one policy without a condition's transition.
    pub status_interval: Duration,
    /// A status of Pending is written only after so long without an outcome of the first write.
    pub pending_status_after: Duration,
    /// Least time between two Events of one policy and reason.
    pub event_interval: Duration,
    /// Least time between two writes that a host at its cap causes.
    pub capped_write_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_refresh: Duration::from_secs(600),
            default_retention: Duration::from_secs(7 * 86_400),
            max_retention: None,
            default_ports: PortSet::single(Protocol::Tcp, 443),
            first_sight_deadline: Duration::from_secs(5),
            max_addresses_per_host: 1_000,
            max_addresses_per_policy: 2_000,
            max_stale: Duration::from_secs(30 * 86_400),
            stale_action: StaleAction::Keep,
            adoption: Adoption::Seed,
            retry_interval: Duration::from_secs(300),
            status_interval: Duration::from_secs(60),
            pending_status_after: Duration::from_secs(10),
            event_interval: Duration::from_secs(600),
            capped_write_interval: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Last-seen times are stored no more often, when nothing else is written.
    pub const SHORTEST_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(3_600);

    /// How often last-seen times are stored when nothing else is written: a fourteenth of the retention, so that a
    /// restart makes expiry late by that much at most; none for short retentions, where it would be a write storm.
    pub fn checkpoint_interval(retention: Duration) -> Option<Duration> {
        const NONE_BELOW: Duration = Duration::from_secs(14 * 3_600);
        (retention >= NONE_BELOW).then(|| (retention / 14).max(Self::SHORTEST_CHECKPOINT_INTERVAL))
    }
}
