//! The resource's types. What the schema bounds is bounded here; what depends on flags is bounded by the controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outside hosts, addresses and namespaces that the selected pods of this namespace may reach. The controller keeps
/// NetworkPolicy `egress-{name}` true to it while DNS answers change.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "platform.example.com",
    version = "v1alpha1",
    kind = "EgressPolicy",
    plural = "egresspolicies",
    singular = "egresspolicy",
    shortname = "egp",
    namespaced,
    status = "EgressPolicyStatus",
    derive = "PartialEq",
    doc = "What the pods of a namespace may reach outside it: hosts, addresses and other namespaces.",
    // Names never change, so the rule is for new objects: at the root it would else block the status of older ones.
    validation = Rule::new("oldSelf.hasValue() || size(self.metadata.name) <= 246")
        .optional_old_self(true)
        .message("the name is too long: NetworkPolicy egress-{name} has at most 253 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.hostCount"),
    printcolumn(name = "Addresses", type_ = "integer", json_path = ".status.allowedAddressCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EgressPolicySpec {
    /// Longest time between two lookups of a host, in seconds. A shorter DNS TTL shortens it, down to the controller's
    /// `--min-refresh-seconds`. Default: the controller's `--default-refresh-seconds` (600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub refresh_interval_seconds: Option<u32>,

    /// Pods of this namespace that the policy applies to. Default: all.
    #[serde(default)]
    pub pod_selector: LabelSelector,

    /// `Enforce` writes NetworkPolicies. `DryRun` only looks up and reports; an Enforce policy that becomes DryRun
    /// leaves its NetworkPolicy as it is.
    #[serde(default)]
    pub mode: Mode,

    /// How long an address stays allowed after a DNS answer last held it, in seconds. Default: the controller's
    /// `--default-retention-seconds` (7 days); 12 hours are recommended in public clouds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2592000))]
    pub retention_seconds: Option<u32>,

    /// What the pods may reach. Each has exactly one of hostname, ip, cidr and namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub destinations: Vec<Destination>,

    /// Names of namespaces that the pods may reach: all pods, all ports. For fewer, use a namespace destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub namespaces: Vec<String>,
}

/// Whether NetworkPolicies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Write NetworkPolicies.
    #[default]
    Enforce,
    /// Look up and report only.
    DryRun,
}

/// One place outside that pods may reach.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.hostname), has(self.ip), has(self.cidr), has(self.namespace)].filter(set, set).size() == 1")
        .message("a destination has exactly one of hostname, ip, cidr and namespace"),
    validation = Rule::new("!has(self.except) || has(self.cidr)").message("except needs a cidr"),
    validation = Rule::new(
        "!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, isCIDR(e) && cidr(self.cidr).containsCIDR(e) && cidr(e).prefixLength() > cidr(self.cidr).prefixLength())"
    )
    .message("each except is a CIDR strictly inside cidr")
)]
pub struct Destination {
    /// A host name, resolved again and again. No wildcard: addresses of all names below a domain cannot be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 254))]
    #[x_kube(validation = Rule::new("!self.contains('*')")
        .message("wildcards cannot be resolved to addresses: name each host, or use a cidr"))]
    pub hostname: Option<String>,

    /// One IPv4 or IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("ip is an IPv4 or IPv6 address"))]
    pub ip: Option<String>,

    /// A block of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 49))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr is a block like 203.0.113.0/24"))]
    pub cidr: Option<String>,

    /// Blocks inside `cidr` that stay forbidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    #[schemars(length(max = 16), inner(length(max = 49)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub except: Vec<String>,

    /// Pods of another namespace of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<DestinationNamespace>,

    /// Ports of this destination. Default: the controller's `--default-ports` (TCP 443).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub ports: Option<Vec<DestinationPort>>,
}

/// Pods of another namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationNamespace {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Pods of that namespace. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
}

/// A port, or a range of ports.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endPort) || self.endPort >= self.port").message("endPort is at least port"))]
pub struct DestinationPort {
    /// Transport protocol. Default: TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TransportProtocol>,

    /// The port, or the first of a range.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// Last port of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// Transport protocol. Default: TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransportProtocol {
    /// TCP.
    #[serde(rename = "TCP")]
    #[schemars(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    #[schemars(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    #[schemars(rename = "SCTP")]
    Sctp,
}

/// What the controller last saw and did. It is derived: nothing is ever read back from it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted, Resolved, Applied, Ready (the summary) and AddressesDropped (true is bad).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,

    /// How many addresses that DNS gave are allowed now, counted per host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_address_count: Option<i32>,

    /// How many host names the spec has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_count: Option<i32>,

    /// The host names of the spec and their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub hosts: Vec<HostStatus>,

    /// Stamp of the replica that wrote this status, `shard/epoch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<String>,
}

/// One host name of the spec.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The name, in lower case and without a trailing dot.
    pub hostname: String,

    /// How many addresses are allowed for it.
    pub address_count: i32,

    /// The first 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<String>,

    /// Why the last lookup gave no addresses, if it did not: NXDOMAIN, NODATA, SERVFAIL, REFUSED, timeout, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// Since when lookups have failed (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
}

/// Objects stored before the schema may hold `null` where a list belongs; they read as the empty list.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
