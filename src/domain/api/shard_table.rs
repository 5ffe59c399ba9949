//! The `EgressShardTable` resource: which replica holds which shard. One object per installation, changed only by
//! compare-and-swap, and the parameter of the fence in the API server.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which replica of the controller writes for which namespaces. Only the controller writes this object; `egress-controller
/// shards` prints it for people.
// Two columns of the same type are no mistake.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "platform.example.com",
    version = "v1alpha1",
    kind = "EgressShardTable",
    plural = "egressshardtables",
    singular = "egressshardtable",
    derive = "PartialEq",
    doc = "Which replica of egress-controller writes for which namespaces. Only the controller changes it.",
    printcolumn(name = "Shards", type_ = "integer", json_path = ".spec.shardCount"),
    printcolumn(name = "Lease", type_ = "integer", json_path = ".spec.leaseDurationSeconds"),
    printcolumn(name = "Installation", type_ = "string", json_path = ".spec.installation"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.shardCount == oldSelf.shardCount && self.leaseDurationSeconds == oldSelf.leaseDurationSeconds && self.hashVersion == oldSelf.hashVersion && self.installation == oldSelf.installation")
        .message("shardCount, leaseDurationSeconds, hashVersion and installation never change: scale to 0, delete the table, start again"),
    validation = Rule::new("oldSelf.shards.all(shard, shard in self.shards)").message("a shard is never taken out of the table"),
    validation = Rule::new(
        "oldSelf.shards.all(shard, !(shard in self.shards) || self.shards[shard] == oldSelf.shards[shard] || int(self.shards[shard].split('/')[1]) > int(oldSelf.shards[shard].split('/')[1]))"
    )
    .message("a changed shard gets a higher epoch")
)]
pub struct EgressShardTableSpec {
    /// Number of shards. A namespace belongs to shard `fmix64(fnv1a64(name)) mod shardCount`.
    #[schemars(range(min = 1, max = 1024))]
    pub shard_count: u32,

    /// How long a replica is taken for alive after its last sign of life, in seconds. Every other time follows from it.
    #[schemars(range(min = 1, max = 300))]
    pub lease_duration_seconds: u32,

    /// Version of the hash that maps namespaces to shards.
    #[schemars(range(min = 1, max = 1))]
    pub hash_version: u32,

    /// The installation that the table belongs to: the namespace the controller runs in.
    #[schemars(length(min = 1, max = 63))]
    pub installation: String,

    /// Whether the shards of this table have been assigned once. Free shards of a table that is new may still be written
    /// by a replica that has not seen the old one go.
    #[serde(default)]
    pub settled: bool,

    /// The replicas, by the name of their pod.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub members: BTreeMap<String, ShardTableMember>,

    /// The holder of each shard, as `pod/epoch`; a free shard has an empty pod.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 1024))]
    pub shards: BTreeMap<String, ShardTableEntry>,
}

/// `pod/epoch`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardTableEntry(
    #[schemars(length(max = 273), regex(pattern = "^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?/[0-9]{1,18}$"))] pub String,
);

/// One replica.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardTableMember {
    /// The life of the process that speaks as this member: its start, and how often it has joined since.
    #[schemars(length(min = 1, max = 63))]
    pub incarnation: String,

    /// Uid of the pod; empty outside a pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub uid: String,

    /// When the incarnation joined, by its own wall clock; for people only.
    #[schemars(length(max = 40))]
    pub since: String,

    /// It is shutting down, and takes no shard any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}
