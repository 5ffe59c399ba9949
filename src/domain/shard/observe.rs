//! What a replica has seen of the others' Leases. Their versions are compared with each other, their times with nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

/// One state of a Lease; renewed means that it differs from the one before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Renewal {
    /// Uid of the Lease object.
    pub uid: Arc<str>,
    /// Its resourceVersion. Not its renewTime: somebody could put an old one back.
    pub version: Arc<str>,
}

/// The Leases of the others. By the name of the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Observations(BTreeMap<Arc<str>, Observation>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Observation {
    /// None where there is no such Lease.
    renewal: Option<Renewal>,
    /// When this replica first saw it so.
    since: Instant,
}

impl Observations {
    /// The Lease is so now.
    pub fn see(&mut self, lease: &Arc<str>, renewal: Option<Renewal>, now: Instant) {
        match self.0.get_mut(lease) {
            Some(known) if known.renewal == renewal => {}
            Some(known) => *known = Observation { renewal, since: now },
            None => _ = self.0.insert(lease.clone(), Observation { renewal, since: now }),
        }
    }

    /// Starts to wait for a Lease that no watch has shown yet.
    pub fn expect(&mut self, lease: &Arc<str>, now: Instant) {
        self.0.entry(lease.clone()).or_insert(Observation { renewal: None, since: now });
    }

    /// Keeps only these: Leases of members that have gone tell nothing.
    pub fn keep(&mut self, leases: impl Fn(&str) -> bool) {
        self.0.retain(|lease, _| leases(lease));
    }

    /// A replica that could not speak cannot tell either whether the others did: all waiting starts again.
    pub fn restart(&mut self, now: Instant) {
        for known in self.0.values_mut() {
            known.since = now;
        }
    }

    /// All waiting for this Lease starts again.
    pub fn restart_one(&mut self, lease: &str, now: Instant) {
        if let Some(known) = self.0.get_mut(lease) {
            known.since = now;
        }
    }

    /// The state that was seen last.
    pub fn renewal(&self, lease: &str) -> Option<&Renewal> {
        self.0.get(lease)?.renewal.as_ref()
    }

    /// For how long the Lease has not changed, as far as this replica saw.
    pub fn silent_for(&self, lease: &str, now: Instant) -> Option<Duration> {
        self.0.get(lease).map(|known| now.since(known.since))
    }

    /// Since when it has not changed.
    pub fn silent_since(&self, lease: &str) -> Option<Instant> {
        self.0.get(lease).map(|known| known.since)
    }

    /// Whether a Lease was renewed so recently.
    pub fn is_fresh(&self, lease: &str, within: Duration, now: Instant) -> bool {
        self.0.get(lease).is_some_and(|known| known.renewal.is_some() && now.since(known.since) < within)
    }
}
