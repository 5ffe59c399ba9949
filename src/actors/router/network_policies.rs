//! NetworkPolicies of ours, as the label watch shows them; and the namespaces' life.

use std::sync::Arc;

use egress_domain::machine::{Input, Standing};
use egress_domain::object::{EGRESS_PREFIX, PolicyKey};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::RouterState;
use crate::actors::policy::input;
use crate::k8s::watch::{WatchEvent, version_of};

impl RouterState {
    pub(super) fn network_policies_event(&mut self, event: WatchEvent<NetworkPolicy>) {
        match event {
            WatchEvent::Listing => self.lists.network_policies.begin(),
            WatchEvent::Seen(object) => {
                let Some(key) = policy_of(&object).filter(|key| self.owned.holds(&key.namespace)) else { return };
                self.lists.network_policies.see(&key);
                if version_of(&*object) > self.owned.floor(&key.namespace).network_policies {
                    self.network_policy_seen(key, object);
                }
            }
            WatchEvent::Gone(name) => {
                let is_news = name.version > self.owned.floor(&name.namespace).network_policies;
                if let Some(policy) = name.name.strip_prefix(EGRESS_PREFIX).filter(|_| is_news) {
                    let key = PolicyKey::new(name.namespace.as_str(), policy);
                    if self.owned.is_read_soon(&key.namespace) {
                        self.owned.gone.network_policies.note(key.clone(), name.version);
                    }
                    self.network_policy_gone(&key);
                }
            }
            WatchEvent::Undecodable(_) => {}
            WatchEvent::Listed => {
                let gone = self.lists.network_policies.end(self.network_policies.keys());
                for key in gone {
                    self.network_policy_gone(&key);
                }
            }
        }
    }

    pub(super) fn network_policy_seen(&mut self, key: PolicyKey, object: Box<NetworkPolicy>) {
        let actor = self.policies.get(&key).and_then(|entry| entry.actor.as_ref());
        let kept = match actor {
            Some(actor) => {
                drop(actor.cast(input(Input::Live(Some(object)))));
                None
            }
            // Kept for the actor's start, or for the search for orphans.
            None => Some(object),
        };
        self.network_policies.insert(key, kept);
    }

    /// It went, or lost our label.
    pub(super) fn network_policy_gone(&mut self, key: &PolicyKey) {
        self.network_policies.remove(key);
        if let Some(actor) = self.policies.get(key).and_then(|entry| entry.actor.as_ref()) {
            drop(actor.cast(input(Input::Live(None))));
        }
    }

    pub(super) fn namespaces_event(&mut self, event: WatchEvent<PartialObjectMeta<NamespaceObject>>) {
        match event {
            WatchEvent::Listing => self.lists.namespaces.begin(),
            WatchEvent::Seen(object) => {
                let name: Arc<str> = object.name_any().into();
                self.lists.namespaces.see(&name);
                self.owned.namespace_seen(&name);
                self.set_terminating(name, object.metadata.deletion_timestamp.is_some());
            }
            WatchEvent::Gone(name) => self.namespace_gone(&name.name),
            WatchEvent::Undecodable(_) => {}
            WatchEvent::Listed => {
                let known: Vec<Arc<str>> = self.owned.namespaces().cloned().collect();
                let gone = self.lists.namespaces.end(known.iter());
                for name in gone {
                    self.set_terminating(name.clone(), true);
                    self.owned.namespace_gone(&name);
                }
            }
        }
    }

    /// The watch of the namespaces may be behind: a policy that is passed over now must be read when its shard is gained.
    pub(super) fn namespace_of_policy_seen(&mut self, namespace: &Arc<str>) {
        self.lists.namespaces.see(namespace);
        self.owned.namespace_seen(namespace);
    }

    /// Nothing is left to write in it, so nothing is remembered either: names of namespaces that came and went would
    /// pile up. A policy whose own deletion is still to be seen learns it from its next write.
    fn namespace_gone(&mut self, namespace: &str) {
        self.terminating.remove(namespace);
        self.owned.namespace_gone(namespace);
        self.namespaces.remove(namespace);
    }

    fn set_terminating(&mut self, namespace: Arc<str>, terminating: bool) {
        let changed =
            if terminating { self.terminating.insert(namespace.clone()) } else { self.terminating.remove(&namespace) };
        if changed {
            if terminating {
                self.namespaces.remove(&namespace);
            }
            let standing: Standing = self.standing(&namespace);
            self.for_each_actor_in(&namespace, || input(Input::Standing(standing)));
        }
    }
}

/// The policy that an `egress-{name}` is named after.
pub(super) fn policy_of(object: &NetworkPolicy) -> Option<PolicyKey> {
    let name = object.metadata.name.as_deref()?.strip_prefix(EGRESS_PREFIX)?;
    Some(PolicyKey::new(object.metadata.namespace.as_deref()?, name))
}
