//! NetworkPolicies of ours whose EgressPolicy is gone. Owner references collect them too, where something collects.

use std::sync::Arc;

use egress_domain::machine::Standing;
use egress_domain::network_policy;
use egress_domain::object::{ObjectKey, PolicyKey};
use egress_domain::shard::stamp::Stamp;
use egress_domain::write::{Lane, WriteOutcome, WriteRequest};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::{RouterMsg, RouterState};
use crate::actors::writer::WriterMsg;

/// Reads of one orphan that changes under our hands, before the next relist looks again.
const MAX_ATTEMPTS: u32 = 10;

impl RouterState {
    /// After lists of these shards: everything that carries an owner reference of ours to a policy that does not exist.
    pub(super) fn remove_orphans(&mut self, shards: &[Stamp]) {
        let kept = self
            .network_policies
            .iter_mut()
            .filter(|(key, _)| !self.policies.contains_key(*key) && !self.undecodable.contains_key(*key))
            .filter(|(key, _)| self.owned.stamp(&key.namespace).is_some_and(|stamp| shards.contains(&stamp)));
        let orphans: Vec<(PolicyKey, Box<NetworkPolicy>)> =
            kept.filter_map(|(key, object)| Some((key.clone(), object.take()?))).collect();
        for (key, object) in orphans {
            self.remove_orphan(&key, &object);
        }
    }

    /// A policy went: its NetworkPolicy is read as it is now, and deleted if it is still the orphan.
    pub(super) fn orphaned(&mut self, key: &PolicyKey) {
        if self.standing(&key.namespace) == Standing::Normal {
            self.ask(key, WriteRequest::Read);
        }
    }

    pub(super) fn orphan_answered(&mut self, key: &PolicyKey, outcome: WriteOutcome) {
        if self.policies.contains_key(key) {
            // The policy has come back, and its actor looks after the object.
            self.orphans.remove(key);
            return;
        }
        match outcome {
            WriteOutcome::Read(Some(object)) => self.remove_orphan(key, &object),
            WriteOutcome::Stale | WriteOutcome::AlreadyExists => {
                let attempts = self.orphans.entry(key.clone()).or_default();
                *attempts += 1;
                if *attempts < MAX_ATTEMPTS {
                    self.ask(key, WriteRequest::Read);
                } else {
                    tracing::warn!(policy = %key, "an orphaned NetworkPolicy keeps changing; it is left for the next start");
                }
            }
            WriteOutcome::Rejected(message) => {
                tracing::warn!(policy = %key, message, "an orphaned NetworkPolicy could not be deleted");
            }
            // Not ours at the moment: looked at again when it is.
            WriteOutcome::Fenced => _ = self.orphans.insert(key.clone(), 0),
            _ => {
                self.orphans.remove(key);
            }
        }
    }

    fn remove_orphan(&mut self, key: &PolicyKey, object: &NetworkPolicy) {
        let is_ours = network_policy::owner(object).is_some_and(|(owner, _)| owner == *key);
        let metadata = &object.metadata;
        if let (true, Some(uid), Some(version)) = (is_ours, &metadata.uid, &metadata.resource_version) {
            let request = WriteRequest::Delete { uid: uid.clone(), resource_version: version.clone() };
            self.ask(key, request);
        }
    }

    fn ask(&self, key: &PolicyKey, request: WriteRequest) {
        let (router, answered) = (self.shared.router.clone(), key.clone());
        let sink = move |outcome| drop(router.cast(RouterMsg::OrphanAnswered { key: answered.clone(), outcome }));
        drop(self.shared.writer.cast(WriterMsg::Submit {
            key: ObjectKey::NetworkPolicy(key.clone()),
            lane: Lane::Expired,
            request,
            stamp: self.owned.stamp(&key.namespace),
            sink: Some(Arc::new(sink)),
        }));
    }
}
