//! What replicas write, and how it is refused.

use std::collections::BTreeMap;

use egress_domain::api::{
    EgressPolicy, EgressShardTableSpec, FENCE_ANNOTATION, FenceRefusal, ShardTableEntry, is_fence_refusal,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::bed::ACCOUNT;

pub fn entries<'a>(entries: impl IntoIterator<Item = (u32, &'a str)>) -> BTreeMap<String, ShardTableEntry> {
    entries.into_iter().map(|(shard, entry)| (shard.to_string(), ShardTableEntry(entry.to_owned()))).collect()
}

/// Shards 1 and 2 stay with `a` and `b`, 3 stays free, 4 is moved by a test.
pub fn table() -> EgressShardTableSpec {
    EgressShardTableSpec {
        shard_count: 8,
        lease_duration_seconds: 15,
        hash_version: 1,
        installation: ACCOUNT.to_owned(),
        settled: true,
        members: BTreeMap::new(),
        shards: entries([(1, "a/10"), (2, "b/20"), (3, "/30"), (4, "a/40")]),
    }
}

pub fn policy() -> EgressPolicy {
    let policy = json!({"apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy", "metadata": {"name": "web"},
        "spec": {"destinations": [{"ip": "192.0.2.1"}]}});
    serde_json::from_value(policy).expect("an EgressPolicy")
}

/// One that the controller would write; specs of different numbers differ.
pub fn network_policy(name: &str, number: u8, stamp: Option<&str>) -> NetworkPolicy {
    let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "egress-controller"}},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": format!("192.0.2.{number}/32")}}]}]}});
    if let Some(stamp) = stamp {
        object["metadata"]["annotations"] = json!({FENCE_ANNOTATION: stamp});
    }
    serde_json::from_value(object).expect("a NetworkPolicy")
}

pub async fn apply(api: &Api<NetworkPolicy>, object: &NetworkPolicy) -> kube::Result<NetworkPolicy> {
    api.patch(&object.name_any(), &PatchParams::apply("egress-controller").force(), &Patch::Apply(object)).await
}

/// Stamps this version of the object, as before a delete.
pub async fn restamp(api: &Api<NetworkPolicy>, object: &NetworkPolicy, stamp: &str) -> kube::Result<NetworkPolicy> {
    let patch = json!({"metadata": {"uid": object.uid(), "resourceVersion": object.resource_version(),
        "annotations": {FENCE_ANNOTATION: stamp}}});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
}

pub async fn delete(api: &Api<NetworkPolicy>, object: &NetworkPolicy) -> kube::Result<()> {
    let preconditions = Preconditions { uid: object.uid(), resource_version: object.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    api.delete(&object.name_any(), &params).await.map(drop)
}

pub fn refusal<T>(outcome: &kube::Result<T>) -> Option<FenceRefusal> {
    match outcome {
        Err(kube::Error::Api(status)) => is_fence_refusal(&status.message),
        _ => None,
    }
}

/// The fence refuses: 403, so that nobody takes the object for a bad one.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(outcome: kube::Result<T>, expected: FenceRefusal, what: &str) {
    match outcome {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, is_fence_refusal(&status.message)), (403, Some(expected)), "{what}: {status:?}");
        }
        other => panic!("{what} should be refused: {other:?}"),
    }
}
