//! Many policies at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use egress_domain::api::EgressPolicy;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::{PATIENCE, World, allowed};

/// (namespace, policy) and what it allows.
pub type Allowed = BTreeMap<(String, String), BTreeSet<String>>;

/// Requests of a test under way at once.
const AT_ONCE: usize = 16;
/// Pause between two lists: reading a thousand objects without one would starve what is tested.
const PAUSE: Duration = Duration::from_millis(200);

impl World {
    /// Namespaces of this test's own.
    pub async fn namespaces(&self, prefix: &str, count: usize) -> Vec<String> {
        stream::iter(0..count).map(|_| self.namespace(prefix)).buffer_unordered(AT_ONCE).collect().await
    }

    /// Creates policies, several at once: (namespace, name, spec).
    pub async fn create_policies(&self, policies: Vec<(String, String, Value)>) {
        let create = async |(namespace, name, spec): (String, String, Value)| {
            self.create_policy(&namespace, &name, spec).await;
        };
        stream::iter(policies).map(create).buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Waits until the NetworkPolicies of all policies of the cluster are exactly these.
    pub async fn all_allow(&self, within: Duration, expected: &Allowed) {
        let check = async || {
            let found = self.all_allowed().await?;
            let wrong: Vec<_> = expected.iter().filter(|(key, addresses)| found.get(key) != Some(addresses)).collect();
            let foreign = found.keys().find(|key| !expected.contains_key(*key));
            let first = wrong.first().map(|(key, addresses)| (key, addresses, found.get(key)));
            if !wrong.is_empty() || foreign.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            ensure!(
                wrong.is_empty(),
                "{} of {} are not right, as (expected, found) {first:?}",
                wrong.len(),
                expected.len()
            );
            ensure!(foreign.is_none(), "{foreign:?} should not be there");
            anyhow::Ok(())
        };
        egress_testbed::eventually(within, check).await.expect("all NetworkPolicies become right");
    }

    /// What the NetworkPolicies of all policies of the cluster allow now.
    pub async fn all_allowed(&self) -> anyhow::Result<Allowed> {
        let all = Api::<NetworkPolicy>::all(self.client.clone()).list(&ListParams::default()).await?;
        let ours = all.into_iter().filter_map(|object| {
            let policy = object.name_any().strip_prefix("egress-")?.to_owned();
            Some(((object.namespace().unwrap_or_default(), policy), allowed(&object)))
        });
        Ok(ours.collect())
    }

    /// Waits until so many policies exist and every one has this condition.
    pub async fn all_have(&self, count: usize, kind: &str, status: &str, reason: &str) {
        let check = async || {
            let all = Api::<EgressPolicy>::all(self.client.clone()).list(&ListParams::default()).await?.items;
            let has = |policy: &&EgressPolicy| {
                let conditions = policy.status.iter().flat_map(|status| &status.conditions);
                let mut fitting = conditions.filter(|found| found.type_ == kind);
                fitting.any(|found| (found.status.as_str(), found.reason.as_str()) == (status, reason))
            };
            let lacking: Vec<_> = all.iter().filter(|policy| !has(policy)).collect();
            if all.len() != count || !lacking.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            ensure!(all.len() == count, "{} policies, not {count}", all.len());
            let first = lacking.first().map(|policy| (policy.name_any(), &policy.status));
            ensure!(lacking.is_empty(), "{} are not {kind} {status} {reason}, as {first:?}", lacking.len());
            anyhow::Ok(())
        };
        egress_testbed::eventually(PATIENCE, check).await.expect("every policy comes to the condition");
    }
}

/// One entry of [`Allowed`].
pub fn entry(namespace: &str, name: &str, addresses: &[&str]) -> ((String, String), BTreeSet<String>) {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    ((namespace.to_owned(), name.to_owned()), addresses)
}
