//! What went while it was read: a watch may show the end of an object before the read that still has it is taken in.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use egress_domain::object::PolicyKey;

/// What watches showed to go in namespaces of ours that do not act yet.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) policies: Ends<PolicyKey>,
    pub(super) network_policies: Ends<PolicyKey>,
    pub(super) denies: Ends<Arc<str>>,
}

impl Gone {
    /// Keeps what is in these namespaces.
    pub(super) fn keep(&mut self, namespaces: impl Fn(&str) -> bool) {
        self.policies.0.retain(|key, _| namespaces(&key.namespace));
        self.network_policies.0.retain(|key, _| namespaces(&key.namespace));
        self.denies.0.retain(|namespace, _| namespaces(namespace));
    }
}

/// The revision at which each went.
pub(super) struct Ends<K>(HashMap<K, u64>);

impl<K> Default for Ends<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Ends<K> {
    pub(super) fn note(&mut self, key: K, version: u64) {
        self.0.insert(key, version);
    }

    /// Whether an object of this version went later.
    pub(super) fn is_gone(&self, key: &K, version: u64) -> bool {
        self.0.get(key).is_some_and(|end| *end > version)
    }
}
