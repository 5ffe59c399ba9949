//! Every stored revision of the NetworkPolicies of a namespace, as a watch shows them.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use egress_testbed::eventually;
use futures::TryStreamExt as _;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{PATIENCE, World};

/// Longer than a test takes; the API server's own bound is 295 s.
const WATCH_SECONDS: u32 = 290;

/// A watch from a moment on; it ends with the value.
pub struct Revisions {
    api: Api<NetworkPolicy>,
    seen: Arc<Mutex<Vec<NetworkPolicy>>>,
    task: JoinHandle<()>,
}

impl Revisions {
    /// Records from now on.
    pub async fn record(world: &World, namespace: &str) -> Self {
        let api = world.network_policies(namespace);
        let list = api.list(&ListParams::default()).await.expect("a list");
        let version = list.metadata.resource_version.expect("its version");
        let (seen, watched) = (Arc::<Mutex<Vec<NetworkPolicy>>>::default(), api.clone());
        let revisions = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let params = WatchParams::default().timeout(WATCH_SECONDS);
            let mut events = pin!(watched.watch(&params, &version).await.expect("a watch"));
            while let Some(event) = events.try_next().await.expect("an event") {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                    revisions.lock().expect("the revisions").push(object);
                }
            }
        });
        Self { api, seen, task }
    }

    /// The revisions of one object so far.
    pub fn of(&self, object: &str) -> Vec<NetworkPolicy> {
        let seen = self.seen.lock().expect("the revisions");
        seen.iter().filter(|revision| revision.name_any() == object).cloned().collect()
    }

    /// Waits for the revision of this number (from 0) of an object.
    pub async fn nth(&self, object: &str, number: usize) -> NetworkPolicy {
        let find = async || {
            self.of(object).into_iter().nth(number).with_context(|| format!("no revision {number} of {object}"))
        };
        eventually(PATIENCE, find).await.expect("the revision comes")
    }

    /// Every revision that is stored by now, each of a legal shape (I1). An object of this function's own marks the end.
    pub async fn up_to_now(&self) -> Vec<NetworkPolicy> {
        let marker = format!("marker-{:08x}", rand_u32());
        let object = json!({"metadata": {"name": marker}, "spec": {"podSelector": {"matchLabels": {"no": "pod"}}, "policyTypes": ["Egress"]}});
        let object = serde_json::from_value(object).expect("a NetworkPolicy");
        self.api.create(&PostParams::default(), &object).await.expect("the marker is stored");
        self.nth(&marker, 0).await;
        let seen = self.seen.lock().expect("the revisions").clone();
        let seen: Vec<_> = seen.into_iter().filter(|revision| !revision.name_any().starts_with("marker-")).collect();
        seen.iter().for_each(assert_shape);
        seen
    }
}

impl Drop for Revisions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rand_u32() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(()) as u32
}

/// I1: never an empty `to`, a rule without peers or ports (the namespace shorthand aside), an empty list of rules, or
/// other policy types.
#[track_caller]
pub fn assert_shape(object: &NetworkPolicy) {
    let spec = object.spec.as_ref().expect("a spec");
    assert_eq!(spec.policy_types, Some(vec!["Egress".to_owned()]), "{object:?}");
    assert!(spec.egress.as_ref().is_none_or(|rules| !rules.is_empty()), "{object:?}");
    let is_right = |rule: &NetworkPolicyEgressRule| {
        let peers = rule.to.as_deref().unwrap_or_default();
        let has_ports = rule.ports.as_ref().is_some_and(|ports| !ports.is_empty());
        let only_namespaces = peers.iter().all(|peer| peer.namespace_selector.is_some());
        !peers.is_empty() && (has_ports || only_namespaces)
    };
    assert!(spec.egress.iter().flatten().all(is_right), "{object:?}");
}
