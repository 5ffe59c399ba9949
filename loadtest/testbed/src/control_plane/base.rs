//! The state after the installation, and the way back to it.
//!
//! What tests make is deleted in etcd, because through the API server it would take a request per object, and a namespace would never go
//! without a controller manager. The API server follows by its watches of etcd; a restore ends when all of its caches have.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use hyper::Request;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::ControlPlane;
use super::etcd::{Etcd, Keys};
use crate::eventually;

/// A loaded machine is given a multiple of what it takes.
const DEADLINE: Duration = Duration::from_secs(90);
/// Requests of a killed controller may still be under way when its objects are deleted.
const ROUNDS: usize = 5;

/// What tests make and a restore deletes, by its place in etcd, and the list that shows that the API server has seen it go.
/// An object of another kind may change how the API server works, and then a new one is safer.
const KINDS: [(&str, &str); 14] = [
    ("namespaces", "/api/v1/namespaces"),
    ("pods", "/api/v1/pods"),
    ("configmaps", "/api/v1/configmaps"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
    ("events", "/api/v1/events"),
    ("minions", "/api/v1/nodes"),
    ("services/specs", "/api/v1/services"),
    ("services/endpoints", "/api/v1/endpoints"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("ipaddresses", "/apis/networking.k8s.io/v1/ipaddresses"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("leases", "/apis/coordination.k8s.io/v1/leases"),
    ("platform.example.com/egresspolicies", "/apis/platform.example.com/v1alpha1/egresspolicies"),
    ("platform.example.com/egressshardtables", "/apis/platform.example.com/v1alpha1/egressshardtables"),
];
/// What the API server writes by itself at any time.
const ITS_OWN: [&str; 5] =
    ["apiregistration.k8s.io/", "leases/kube-system/apiserver-", "masterleases/", "peerserverleases/", "ranges/"];
/// What it makes last at its start.
const LAST: [&str; 3] = ["services/specs/default/kubernetes", "ipaddresses/10.96.0.1", "servicecidrs/kubernetes"];
/// The FlowSchema of deploy/.
const FLOW_SCHEMA: &str = "egress-controller-leases";

/// The keys of a control plane that has deploy/ applied and was used by nobody.
#[derive(Debug)]
pub(super) struct Base(Keys);

impl Base {
    pub(super) async fn of(control_plane: &ControlPlane) -> Result<Self> {
        flow_schema_has_settled(&control_plane.client()).await?;
        let etcd = Etcd::new(control_plane.etcd)?;
        let settled = eventually(DEADLINE, async || {
            let keys = etcd.keys().await?;
            let missing = LAST.iter().find(|key| !keys.contains_key(&format!("/registry/{key}")));
            ensure!(missing.is_none(), "{missing:?} is not there yet");
            Ok(keys)
        });
        Ok(Self(settled.await?))
    }

    /// Brings a control plane back to this; it must have no clients any more.
    pub(super) async fn restore(&self, control_plane: &ControlPlane) -> Result<()> {
        let (etcd, client) = (Etcd::new(control_plane.etcd)?, control_plane.client());
        for _ in 0..ROUNDS {
            let keys = etcd.keys().await?;
            let surplus = self.surplus(&keys)?;
            if surplus.is_empty() {
                return Ok(());
            }
            let revision = etcd.delete(&surplus).await?;
            try_join_all(KINDS.map(|(_, path)| has_followed(&client, path, revision))).await?;
            fence_has_followed(&client).await?;
        }
        bail!("somebody still writes")
    }

    /// The keys that are to be deleted; an error where that would not do.
    fn surplus<'a>(&self, keys: &'a Keys) -> Result<Vec<&'a str>> {
        for (key, revision) in self.0.iter().filter(|(key, _)| !is_below(key, &ITS_OWN)) {
            ensure!(keys.get(key) == Some(revision), "{key} was changed");
        }
        let surplus =
            keys.keys().map(String::as_str).filter(|key| !self.0.contains_key(*key) && !is_below(key, &ITS_OWN));
        let surplus: Vec<&str> = surplus.collect();
        let kinds = KINDS.map(|(kind, _)| format!("{kind}/"));
        let other = surplus.iter().find(|key| !is_below(key, &kinds));
        ensure!(other.is_none(), "{other:?} was made");
        Ok(surplus)
    }
}

fn is_below(key: &str, prefixes: &[impl AsRef<str>]) -> bool {
    let key = key.strip_prefix("/registry/").unwrap_or(key);
    prefixes.iter().any(|prefix| key.starts_with(prefix.as_ref()))
}

/// Returns when the API server has noted in our FlowSchema, where there is one, whether its priority level exists. That
/// comes a moment after the create; a base from before it would take the note for a change of the installation.
async fn flow_schema_has_settled(client: &Client) -> Result<()> {
    let schemas = Api::<FlowSchema>::all(client.clone());
    eventually(DEADLINE, async || {
        let Some(schema) = schemas.get_opt(FLOW_SCHEMA).await? else { return Ok(()) };
        let conditions = schema.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_noted = conditions.iter().any(|condition| condition.type_.as_deref() == Some("Dangling"));
        ensure!(is_noted, "{FLOW_SCHEMA} has no condition Dangling yet: {conditions:?}");
        Ok(())
    })
    .await
}

/// Returns when lists of this kind from the API server's cache are as new as the revision.
async fn has_followed(client: &Client, path: &str, revision: u64) -> Result<()> {
    let list = async |query: &str| -> Result<Value> {
        Ok(client.request(Request::get(format!("{path}{query}")).body(Vec::new())?).await?)
    };
    let followed = async || {
        // A consistent read makes the cache catch up; the second list tells whether it has.
        list("").await?;
        let cached = list("?resourceVersion=0").await?;
        let version = cached["metadata"]["resourceVersion"].as_str().context("a list without a version")?;
        ensure!(version.parse::<u64>()? >= revision, "the cache is at {version}, not yet at {revision}");
        Ok(())
    };
    eventually(DEADLINE, followed).await.with_context(|| format!("{path} after a restore"))
}

/// Returns when the fence knows that there is no table: it refuses everything that has our label then, whoever asks.
async fn fence_has_followed(client: &Client) -> Result<()> {
    let object = json!({"metadata": {"name": "probe", "labels": {"app.kubernetes.io/managed-by": "egress-controller"}},
        "spec": {"podSelector": {}}});
    let object: NetworkPolicy = serde_json::from_value(object)?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let policies = Api::namespaced(client.clone(), "default");
    let refused = async || match policies.create(&dry_run, &object).await {
        Err(kube::Error::Api(status)) if status.message.contains("no params found") => Ok(()),
        other => bail!("the fence still has a table: {other:?}"),
    };
    eventually(DEADLINE, refused).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(all: &[(&str, u64)]) -> Keys {
        all.iter().map(|(key, revision)| (format!("/registry/{key}"), *revision)).collect()
    }

    fn base() -> Base {
        Base(keys(&[("namespaces/default", 1), ("clusterroles/ours", 2), ("leases/kube-system/apiserver-a", 3)]))
    }

    #[test]
    fn what_was_added_is_surplus() {
        let mut now = base().0;
        now.extend(keys(&[("namespaces/app", 9), ("leases/kube-system/apiserver-a", 10), ("pods/app/web", 11)]));
        assert_eq!(base().surplus(&now).expect("data only"), ["/registry/namespaces/app", "/registry/pods/app/web"]);
    }

    #[test]
    fn a_changed_or_deleted_part_of_the_installation_is_not_restored() {
        let (mut changed, mut deleted) = (base().0, base().0);
        changed.extend(keys(&[("clusterroles/ours", 9)]));
        deleted.remove("/registry/clusterroles/ours");
        assert!(base().surplus(&changed).is_err() && base().surplus(&deleted).is_err());
    }

    #[test]
    fn an_object_that_changes_the_api_server_is_not_restored() {
        let mut now = base().0;
        now.extend(keys(&[("validatingadmissionpolicies/test", 9)]));
        let told = format!("{:#}", base().surplus(&now).expect_err("no data"));
        assert!(told.contains("validatingadmissionpolicies/test"), "{told}");
    }
}
