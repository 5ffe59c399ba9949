//! Default denies: created once a namespace has an enforcing policy, never overwritten, created again when deleted.

use std::sync::Arc;

use egress_domain::machine::Standing;
use egress_domain::namespace::{Namespace, NamespaceEffect};
use egress_domain::network_policy;
use egress_domain::object::{ObjectKey, PolicyKey};
use egress_domain::write::{Lane, PolicyEvent, WriteOutcome, WriteRequest};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::{RouterMsg, RouterState};
use crate::actors::writer::WriterMsg;
use crate::k8s::watch::{WatchEvent, version_of};

impl RouterState {
    pub(super) fn enforcing(&mut self, key: &PolicyKey, selects_all: Option<bool>) {
        // A message of an actor that has been stopped meanwhile.
        if !self.options.default_deny || !self.policies.contains_key(key) {
            return;
        }
        let exists = self.denies.contains_key(&key.namespace);
        let now = self.shared.clock.now().instant;
        let namespace = self.namespaces.entry(key.namespace.clone()).or_insert_with(|| Namespace::new(exists));
        let effects = namespace.enforcing(key, selects_all, now);
        self.perform_deny(&key.namespace, effects);
    }

    pub(super) fn withdraw_enforcing(&mut self, key: &PolicyKey) {
        let now = self.shared.clock.now().instant;
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else { return };
        let effects = namespace.enforcing(key, None, now);
        if namespace.is_idle() {
            self.namespaces.remove(&key.namespace);
        }
        self.perform_deny(&key.namespace, effects);
    }

    pub(super) fn denies_event(&mut self, event: WatchEvent<PartialObjectMeta<NetworkPolicy>>) {
        match event {
            WatchEvent::Listing => self.lists.denies.begin(),
            WatchEvent::Seen(object) => {
                let namespace: Arc<str> = object.namespace().unwrap_or_default().into();
                let is_news = version_of(&*object) > self.owned.floor(&namespace).network_policies;
                if !self.owned.holds(&namespace) {
                    return;
                }
                self.lists.denies.see(&namespace);
                if is_news {
                    self.deny_seen(namespace, version_of(&*object));
                }
            }
            WatchEvent::Gone(name) => {
                if name.version > self.owned.floor(&name.namespace).network_policies {
                    let namespace: Arc<str> = name.namespace.into();
                    if self.owned.is_read_soon(&namespace) {
                        self.owned.gone.denies.note(namespace.clone(), name.version);
                    }
                    self.deny_gone(&namespace);
                }
            }
            WatchEvent::Undecodable(_) => {}
            WatchEvent::Listed => {
                let gone = self.lists.denies.end(self.denies.keys());
                for namespace in gone {
                    self.deny_gone(&namespace);
                }
            }
        }
    }

    pub(super) fn deny_seen(&mut self, namespace: Arc<str>, version: u64) {
        if let Some(known) = self.namespaces.get_mut(&namespace) {
            known.deny_seen();
        }
        self.denies.insert(namespace, version);
    }

    pub(super) fn deny_gone(&mut self, namespace: &Arc<str>) {
        self.denies.remove(namespace);
        let now = self.shared.clock.now().instant;
        if let Some(known) = self.namespaces.get_mut(namespace) {
            let effects = known.deny_gone(now);
            self.perform_deny(namespace, effects);
        }
    }

    pub(super) fn deny_answered(&mut self, namespace: &Arc<str>, outcome: WriteOutcome) {
        let exists = matches!(outcome, WriteOutcome::Written(_) | WriteOutcome::AlreadyExists);
        if !exists {
            tracing::warn!(%namespace, ?outcome, "default-deny-egress could not be created; it is tried again");
        }
        if let Some(known) = self.namespaces.get_mut(namespace) {
            known.create_answered(exists);
        }
    }

    pub(super) fn tick_denies(&mut self) {
        let now = self.shared.clock.now().instant;
        let due = |known: &Namespace| known.next_deadline().is_some_and(|at| now >= at);
        let due: Vec<Arc<str>> =
            self.namespaces.iter().filter(|(_, known)| due(known)).map(|(name, _)| name.clone()).collect();
        for namespace in due {
            if let Some(known) = self.namespaces.get_mut(&namespace) {
                let effects = known.tick(now);
                self.perform_deny(&namespace, effects);
            }
        }
    }

    fn perform_deny(&mut self, namespace: &Arc<str>, effects: Vec<NamespaceEffect>) {
        if self.standing(namespace) != Standing::Normal || !self.owned.acts(namespace) {
            return;
        }
        for effect in effects {
            match effect {
                NamespaceEffect::CreateDefaultDeny => self.create_deny(namespace),
                NamespaceEffect::FirstDefaultDeny(key) => self.first_deny_event(&key),
            }
        }
    }

    fn create_deny(&self, namespace: &Arc<str>) {
        let (router, answered) = (self.shared.router.clone(), namespace.clone());
        let sink = move |outcome| drop(router.cast(RouterMsg::DenyAnswered { namespace: answered.clone(), outcome }));
        drop(self.shared.writer.cast(WriterMsg::Submit {
            key: ObjectKey::DefaultDeny(namespace.clone()),
            lane: Lane::Spec,
            request: WriteRequest::Create(Box::new(network_policy::default_deny(namespace))),
            stamp: self.owned.stamp(namespace),
            sink: Some(Arc::new(sink)),
        }));
    }

    /// A policy for some pods closes all pods of its namespace: somebody should hear of it.
    fn first_deny_event(&self, key: &PolicyKey) {
        let Some(entry) = self.policies.get(key) else { return };
        let event = PolicyEvent {
            uid: entry.policy.uid.clone(),
            reason: "DefaultDenyCreated",
            note: format!(
                "default-deny-egress now closes the egress of every pod of namespace {}; this policy opens it for the pods it selects only",
                key.namespace
            ),
            warning: false,
        };
        drop(self.shared.writer.cast(WriterMsg::Submit {
            key: ObjectKey::Event(key.clone(), 0),
            lane: Lane::Status,
            request: WriteRequest::Event(Box::new(event)),
            stamp: None,
            sink: None,
        }));
    }
}
