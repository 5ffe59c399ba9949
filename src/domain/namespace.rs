//! What is decided per namespace: its default deny, and how many hosts each of its policies may have looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::drift::DriftBackoff;
use crate::object::PolicyKey;
use crate::time::{Instant, UnixTime};

/// Whether `default-deny-egress` exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deny {
    Absent,
    Creating,
    Present,
}

/// What is to be done for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an effect that is not performed is lost"]
pub enum NamespaceEffect {
    /// Create `default-deny-egress`; it is never overwritten.
    CreateDefaultDeny,
    /// This policy, which selects some pods only, closed the egress of every pod of the namespace.
    FirstDefaultDeny(PolicyKey),
}

/// One namespace with policies.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Enforcing policies, and whether each selects all pods.
    enforcing: BTreeMap<Arc<str>, bool>,
    deny: Deny,
    created_once: bool,
    drift: DriftBackoff,
}

impl Namespace {
    /// A namespace in which the watch does (not) see a default deny.
    pub fn new(deny_exists: bool) -> Self {
        let deny = if deny_exists { Deny::Present } else { Deny::Absent };
        Self { enforcing: BTreeMap::new(), deny, created_once: deny_exists, drift: DriftBackoff::default() }
    }

    /// A policy enforces, or does no more. The default deny stays when the last one goes (fail closed).
    pub fn enforcing(&mut self, key: &PolicyKey, selects_all: Option<bool>, now: Instant) -> Vec<NamespaceEffect> {
        match selects_all {
            Some(selects_all) => drop(self.enforcing.insert(key.name.clone(), selects_all)),
            None => drop(self.enforcing.remove(&key.name)),
        }
        let mut effects = Vec::new();
        let is_first = !self.created_once;
        if self.create_if_due(now, &mut effects) && is_first && selects_all == Some(false) {
            effects.push(NamespaceEffect::FirstDefaultDeny(key.clone()));
        }
        effects
    }

    /// The watch saw the default deny, ours or anybody's.
    pub fn deny_seen(&mut self) {
        self.deny = Deny::Present;
        self.created_once = true;
    }

    /// The watch saw it go.
    pub fn deny_gone(&mut self, now: Instant) -> Vec<NamespaceEffect> {
        self.deny = Deny::Absent;
        self.tick(now)
    }

    /// The create was answered: it exists now, or must be tried again later.
    pub fn create_answered(&mut self, exists: bool) {
        self.deny = if exists { Deny::Present } else { Deny::Absent };
    }

    /// The deadline came.
    pub fn tick(&mut self, now: Instant) -> Vec<NamespaceEffect> {
        let mut effects = Vec::new();
        self.create_if_due(now, &mut effects);
        effects
    }

    /// When a create that waits for its back-off is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        (self.deny == Deny::Absent && !self.enforcing.is_empty()).then(|| self.drift.next_allowed())
    }

    /// Whether no policy is left that anything here is remembered for.
    pub fn is_idle(&self) -> bool {
        self.enforcing.is_empty()
    }

    fn create_if_due(&mut self, now: Instant, effects: &mut Vec<NamespaceEffect>) -> bool {
        let due = self.deny == Deny::Absent && !self.enforcing.is_empty() && self.drift.allows(now);
        if due {
            // The first creation repairs nothing: a deletion right after it is put right at once.
            if self.created_once {
                self.drift.record(now);
            }
            self.deny = Deny::Creating;
            self.created_once = true;
            effects.push(NamespaceEffect::CreateDefaultDeny);
        }
        due
    }
}

/// How many hosts of each policy may be looked up (I7): policies by creation time, then name, share `cap`.
pub fn host_quotas(policies: &mut [(UnixTime, PolicyKey, usize)], cap: usize) -> Vec<(PolicyKey, usize)> {
    policies.sort();
    let mut left = cap;
    let quota = |(_, key, hosts): &(UnixTime, PolicyKey, usize)| {
        let quota = left;
        left = left.saturating_sub(*hosts);
        (key.clone(), quota)
    };
    policies.iter().map(quota).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> PolicyKey {
        PolicyKey::new("team", name)
    }

    #[test]
    fn the_first_enforcing_policy_closes_the_namespace_once() {
        let mut namespace = Namespace::new(false);
        assert_eq!(
            namespace.enforcing(&key("a"), Some(false), Instant(0)),
            [NamespaceEffect::CreateDefaultDeny, NamespaceEffect::FirstDefaultDeny(key("a"))]
        );
        assert_eq!(namespace.enforcing(&key("b"), Some(true), Instant(1)), []);
        namespace.create_answered(true);
        assert_eq!(namespace.enforcing(&key("a"), None, Instant(2)), []);
    }

    #[test]
    fn a_default_deny_that_is_there_is_left_alone_and_one_that_goes_comes_back() {
        let mut namespace = Namespace::new(true);
        assert_eq!(namespace.enforcing(&key("a"), Some(false), Instant(0)), []);
        assert_eq!(namespace.deny_gone(Instant(1)), [NamespaceEffect::CreateDefaultDeny]);
        namespace.deny_seen();
        assert_eq!(namespace.deny_gone(Instant(2)), [], "the second time waits for the back-off");
        let due = namespace.next_deadline().unwrap();
        assert_eq!(namespace.tick(due), [NamespaceEffect::CreateDefaultDeny]);
    }

    #[test]
    fn a_default_deny_that_goes_right_after_its_creation_comes_back_at_once() {
        let mut namespace = Namespace::new(false);
        let created = namespace.enforcing(&key("a"), Some(true), Instant(0));
        assert_eq!(created, [NamespaceEffect::CreateDefaultDeny]);
        namespace.create_answered(true);
        assert_eq!(namespace.deny_gone(Instant(1)), [NamespaceEffect::CreateDefaultDeny]);
    }

    #[test]
    fn without_an_enforcing_policy_a_deleted_default_deny_stays_away() {
        let mut namespace = Namespace::new(true);
        assert_eq!(namespace.deny_gone(Instant(0)), []);
        assert_eq!(namespace.next_deadline(), None);
    }

    #[test]
    fn older_policies_come_first_when_hosts_are_scarce() {
        let mut policies = vec![
            (UnixTime(20), key("young"), 3),
            (UnixTime(10), key("old"), 4),
            (UnixTime(20), key("even-younger"), 2),
        ];
        let quotas = host_quotas(&mut policies, 5);
        assert_eq!(quotas, [(key("old"), 5), (key("even-younger"), 1), (key("young"), 0)]);
    }
}
