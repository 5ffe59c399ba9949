//! Policies of the router: their actors, their share of the namespace's hosts, restarts after a panic.

use std::sync::Arc;
use std::time::Duration;

use egress_domain::api::{EgressPolicy, EgressPolicySpec};
use egress_domain::machine::Input;
use egress_domain::namespace::host_quotas;
use egress_domain::object::{ObjectKey, PolicyKey};
use egress_domain::policy::ValidatedPolicy;
use egress_domain::time::Instant;
use egress_domain::write::{Lane, WriteRequest};
use kube::ResourceExt;
use ractor::{Actor, ActorId};

use super::{RouterRef, RouterState, of_namespace};
use crate::actors::policy::{PolicyActor, PolicyArgs, PolicyMsg, PolicyRef, input};
use crate::actors::resolver::ResolverMsg;
use crate::actors::writer::WriterMsg;
use crate::k8s::watch::{WatchEvent, version_of};

/// Wait before the first restart of a policy actor; doubled with each further one.
const FIRST_RESTART: Duration = Duration::from_secs(1);
/// Longest wait between restarts: a policy that always panics costs one attempt a minute.
const MAX_RESTART: Duration = Duration::from_secs(60);
/// What the Python operator's framework left on the objects.
const KOPF_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";
const KOPF_ANNOTATIONS: &str = "kopf.zalando.org/";

/// One policy.
pub(super) struct Entry {
    pub(super) policy: Arc<ValidatedPolicy>,
    /// resourceVersion of the object that was seen last.
    pub(super) version: u64,
    /// The object until its actor has started.
    object: Option<Box<EgressPolicy>>,
    pub(super) actor: Option<PolicyRef>,
    subscriber: u64,
    quota: usize,
    failures: u32,
    restart_at: Option<Instant>,
}

impl RouterState {
    pub(super) async fn policies_event(&mut self, myself: &RouterRef, event: WatchEvent<EgressPolicy>) {
        match event {
            WatchEvent::Listing => self.lists.policies.begin(),
            WatchEvent::Seen(object) => {
                let key = key_of(&object);
                self.namespace_of_policy_seen(&key.namespace);
                if !self.owned.holds(&key.namespace) {
                    return;
                }
                self.lists.policies.see(&key);
                if version_of(&*object) > self.owned.floor(&key.namespace).policies {
                    self.policy_seen(myself, key, object).await;
                }
            }
            WatchEvent::Gone(name) => {
                let version = name.version;
                let key: PolicyKey = name.into();
                if self.owned.holds(&key.namespace) && version > self.owned.floor(&key.namespace).policies {
                    self.policy_ended(&key, version);
                }
            }
            WatchEvent::Undecodable(name) => {
                // It exists, so nothing of it may go; what it said last stands.
                let version = name.version;
                let key: PolicyKey = name.into();
                self.namespace_of_policy_seen(&key.namespace);
                if self.owned.holds(&key.namespace) {
                    self.lists.policies.see(&key);
                    if version > self.owned.floor(&key.namespace).policies {
                        self.undecodable.insert(key, version);
                    }
                }
            }
            WatchEvent::Listed => {
                let gone = self.lists.policies.end(self.policies.keys().chain(self.undecodable.keys()));
                for key in gone {
                    self.policy_gone(&key);
                }
            }
        }
    }

    pub(super) async fn policy_seen(&mut self, myself: &RouterRef, key: PolicyKey, object: Box<EgressPolicy>) {
        let version = version_of(&*object);
        if self.policies.get(&key).is_some_and(|entry| entry.version > version) {
            // A watch and a consistent read overtake each other.
            return;
        }
        self.undecodable.remove(&key);
        self.remove_kopf(&key, &object);
        if object.metadata.deletion_timestamp.is_some() {
            return self.policy_ended(&key, version);
        }
        let policy = ValidatedPolicy::parse(&object, &self.settings);
        let hosts = policy.host_names().len();
        let replaced = self.policies.get(&key).is_some_and(|entry| entry.policy.uid != policy.uid);
        if replaced {
            // Deleted and made anew while the watch was down: a new policy, whose NetworkPolicy may be the old one.
            self.stop(&key);
        }
        if let Some(entry) = self.policies.get_mut(&key) {
            entry.version = version;
            // Our own status writes come back as events: nothing of the spec changed.
            if *entry.policy == policy {
                return;
            }
            let hosts_before = entry.policy.host_names().len();
            entry.policy = Arc::new(policy);
            if let Some(actor) = &entry.actor {
                drop(actor.cast(input(Input::Spec(Arc::clone(&entry.policy)))));
            } else {
                entry.object = Some(object);
            }
            if hosts != hosts_before {
                self.share_hosts(&key.namespace);
            }
            return;
        }
        let entry = Entry {
            policy: Arc::new(policy),
            version,
            object: Some(object),
            actor: None,
            subscriber: 0,
            quota: self.options.max_hosts_per_namespace,
            failures: 0,
            restart_at: None,
        };
        self.policies.insert(key.clone(), entry);
        self.orphans.remove(&key);
        if self.started && self.owned.acts(&key.namespace) {
            self.share_hosts(&key.namespace);
            self.start(myself, &key).await;
        }
    }

    /// The watch showed its end.
    fn policy_ended(&mut self, key: &PolicyKey, version: u64) {
        if self.owned.is_read_soon(&key.namespace) {
            self.owned.gone.policies.note(key.clone(), version);
        }
        self.policy_gone(key);
    }

    pub(super) fn policy_gone(&mut self, key: &PolicyKey) {
        let undecodable = self.undecodable.remove(key).is_some();
        let running = self.policies.contains_key(key);
        if running {
            self.stop(key);
            self.share_hosts(&key.namespace);
        }
        if self.started && self.owned.acts(&key.namespace) && (running || undecodable) {
            self.orphaned(key);
        }
    }

    /// Ends the actor of a policy and everything that is asked for it.
    pub(super) fn stop(&mut self, key: &PolicyKey) {
        let Some(entry) = self.policies.remove(key) else { return };
        self.stop_actor(key, &entry);
        self.withdraw_enforcing(key);
    }

    fn stop_actor(&self, key: &PolicyKey, entry: &Entry) {
        if let Some(actor) = &entry.actor {
            actor.stop(None);
            self.shared.metrics.running.dec();
        }
        drop(self.shared.resolver.cast(ResolverMsg::Unsubscribe { subscriber: entry.subscriber }));
        for object in [ObjectKey::NetworkPolicy(key.clone()), ObjectKey::Status(key.clone())] {
            drop(self.shared.writer.cast(WriterMsg::Withdraw(object)));
        }
    }

    /// Starts the actor of a policy with the live object that the watch knows.
    pub(super) async fn start(&mut self, myself: &RouterRef, key: &PolicyKey) {
        if self.stopping {
            return;
        }
        let Some(stamp) = self.owned.stamp(&key.namespace) else { return };
        let (context, standing) = (self.context(), self.standing(&key.namespace));
        let live = self.network_policies.get_mut(key).and_then(Option::take);
        let Some(entry) = self.policies.get_mut(key) else { return };
        let subscriber = self.next_subscriber;
        self.next_subscriber += 1;
        let args = PolicyArgs {
            policy: Arc::clone(&entry.policy),
            object: entry.object.take().unwrap_or_else(|| Box::new(EgressPolicy::new("", EgressPolicySpec::default()))),
            live,
            context,
            stamp,
            standing,
            host_quota: entry.quota,
            subscriber,
            shared: Arc::clone(&self.shared),
        };
        entry.subscriber = subscriber;
        entry.restart_at = None;
        match PolicyActor::spawn_linked(None, PolicyActor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                entry.actor = Some(actor);
                self.shared.metrics.running.inc();
            }
            Err(error) => {
                tracing::error!(policy = %key, %error, "a policy actor did not start");
                self.plan_restart(key);
            }
        }
    }

    pub(super) fn actor_failed(&mut self, id: ActorId, error: &ractor::ActorProcessingErr) {
        let failed =
            self.policies.iter().find(|(_, entry)| entry.actor.as_ref().is_some_and(|actor| actor.get_id() == id));
        let Some(key) = failed.map(|(key, _)| key.clone()) else { return };
        tracing::error!(policy = %key, %error, "a policy actor failed; it is started again, the others go on");
        self.shared.metrics.restarts.inc();
        self.shared.metrics.running.dec();
        if let Some(entry) = self.policies.get_mut(&key) {
            entry.actor = None;
        }
        if let Some(entry) = self.policies.get(&key) {
            self.stop_actor(&key, entry);
        }
        self.plan_restart(&key);
    }

    fn plan_restart(&mut self, key: &PolicyKey) {
        let now = self.shared.clock.now().instant;
        if let Some(entry) = self.policies.get_mut(key) {
            let delay = (FIRST_RESTART * (1 << entry.failures.min(10))).min(MAX_RESTART);
            entry.failures += 1;
            entry.restart_at = Some(now + delay);
        }
    }

    pub(super) async fn restart_due(&mut self, myself: &RouterRef) {
        let now = self.shared.clock.now().instant;
        let due = |entry: &Entry| entry.restart_at.is_some_and(|at| now >= at);
        let keys: Vec<PolicyKey> =
            self.policies.iter().filter(|(_, entry)| due(entry)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.start(myself, &key).await;
        }
    }

    pub(super) fn for_each_actor(&self, message: impl Fn() -> PolicyMsg) {
        for actor in self.policies.values().filter_map(|entry| entry.actor.as_ref()) {
            drop(actor.cast(message()));
        }
    }

    pub(super) fn for_each_actor_in(&self, namespace: &str, message: impl Fn() -> PolicyMsg) {
        for actor in of_namespace(&self.policies, namespace).filter_map(|(_, entry)| entry.actor.as_ref()) {
            drop(actor.cast(message()));
        }
    }

    pub(super) async fn stop_policies(&mut self) {
        self.stopping = true;
        for actor in self.policies.values().filter_map(|entry| entry.actor.as_ref()) {
            drop(actor.drain());
        }
        for entry in self.policies.values_mut() {
            if let Some(actor) = entry.actor.take() {
                drop(actor.wait(None).await);
            }
        }
    }

    /// Shares the namespace's cap of hosts among its policies anew.
    pub(super) fn share_hosts(&mut self, namespace: &str) {
        let cap = self.options.max_hosts_per_namespace;
        let policies = of_namespace(&self.policies, namespace);
        let mut policies: Vec<_> =
            policies.map(|(key, entry)| (entry.policy.created, key.clone(), entry.policy.host_names().len())).collect();
        for (key, quota) in host_quotas(&mut policies, cap) {
            let Some(entry) = self.policies.get_mut(&key) else { continue };
            let enough = entry.policy.host_names().len();
            // Two quotas that both suffice are the same to the policy.
            let changes = quota.min(enough) != entry.quota.min(enough);
            entry.quota = quota;
            if let Some(actor) = entry.actor.as_ref().filter(|_| changes) {
                drop(actor.cast(input(Input::HostQuota(quota))));
            }
        }
    }

    /// Takes the Python operator's finalizer and annotations away, also from objects being deleted.
    fn remove_kopf(&self, key: &PolicyKey, object: &EgressPolicy) {
        let finalizer = object.finalizers().iter().any(|finalizer| finalizer == KOPF_FINALIZER);
        if finalizer || object.annotations().keys().any(|annotation| annotation.starts_with(KOPF_ANNOTATIONS)) {
            drop(self.shared.writer.cast(WriterMsg::Submit {
                key: ObjectKey::Metadata(key.clone()),
                lane: Lane::Spec,
                request: WriteRequest::RemoveKopf,
                stamp: None,
                sink: None,
            }));
        }
    }
}

pub(super) fn key_of(object: &EgressPolicy) -> PolicyKey {
    PolicyKey::new(object.namespace().unwrap_or_default(), object.name_any())
}
