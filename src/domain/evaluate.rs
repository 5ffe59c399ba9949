//! Does a set of NetworkPolicies allow a connection out of a pod?
//!
//! The oracle of the property tests and the reason that `explain` gives. It follows the API documentation of
//! `networking.k8s.io/v1`, which leaves three things open; here they are decided so:
//!
//! - An `ipBlock` matches the destination's address also when the destination is a pod. Plugins differ: some never
//!   match the pods and nodes of the cluster by address.
//! - Addresses are compared as they are written. An IPv4-mapped IPv6 address is an IPv6 address.
//! - A named port is looked up on the destination pod only. An address outside the cluster has no named ports.
//!
//! A pod may always connect to itself and to its node, whatever the policies say; that is not asked here.
//!
//! Whatever the API server would refuse (a peer that is both a block and a selector, a block that is no CIDR, an
//! `endPort` without a number before it, an unknown operator) matches nothing. `docs/evaluator.md` compares this with an
//! evaluator that others wrote.

#[cfg(test)]
mod properties;
mod rule;
mod selector;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use crate::ports::Protocol;

/// Labels of a pod or of a namespace.
pub type Labels = BTreeMap<String, String>;

/// Numbers of a pod's named ports. Two containers may give one name to a TCP and to a UDP port.
pub type NamedPorts = BTreeMap<(String, Protocol), u16>;

/// The pod that opens the connection.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Namespace of the pod: only policies of this namespace select it.
    pub namespace: &'a str,
    /// Labels of the pod.
    pub labels: &'a Labels,
}

/// Where the connection goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// Address of the destination; without one no `ipBlock` matches it.
    pub ip: Option<IpAddr>,
    /// The pod behind the address; without one no selector matches it.
    pub pod: Option<DestinationPod<'a>>,
}

impl Destination<'_> {
    /// An address outside the cluster.
    pub fn outside(ip: IpAddr) -> Self {
        Self { ip: Some(ip), pod: None }
    }
}

/// A pod that is connected to.
#[derive(Clone, Copy, Debug)]
pub struct DestinationPod<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Labels of that namespace, `kubernetes.io/metadata.name` among them.
    pub namespace_labels: &'a Labels,
    /// Labels of the pod.
    pub labels: &'a Labels,
    /// Named ports of the pod.
    pub named_ports: &'a NamedPorts,
}

/// What a set of NetworkPolicies says about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No policy restricts the egress of the source.
    Unrestricted,
    /// Policies restrict the egress of the source and none of their rules allows the connection.
    Denied {
        /// Names of these policies, sorted.
        selected_by: Vec<String>,
    },
    /// A rule allows the connection.
    Allowed {
        /// Name of the policy; the first by name when several allow it.
        policy: String,
        /// Index of its first egress rule that does.
        rule: usize,
    },
}

impl Verdict {
    /// Whether the connection may be made.
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Self::Denied { .. })
    }
}

/// Whether `policies` allow a connection from `source` to `port` of `destination`. The order of the policies is of no
/// consequence, and policies of other namespaces may be among them.
pub fn evaluate<'a>(
    policies: impl IntoIterator<Item = &'a NetworkPolicy>,
    source: &Source<'_>,
    destination: &Destination<'_>,
    protocol: Protocol,
    port: u16,
) -> Verdict {
    let mut restricting: Vec<_> = policies.into_iter().filter_map(|policy| restricts(policy, source)).collect();
    if restricting.is_empty() {
        return Verdict::Unrestricted;
    }
    restricting.sort_unstable_by_key(|(name, _)| *name);

    let connection = rule::Connection { policy_namespace: source.namespace, destination, protocol, port };
    for (name, spec) in &restricting {
        if let Some(rule) = spec.egress.iter().flatten().position(|rule| connection.matches(rule)) {
            return Verdict::Allowed { policy: (*name).to_owned(), rule };
        }
    }
    Verdict::Denied { selected_by: restricting.into_iter().map(|(name, _)| name.to_owned()).collect() }
}

/// Name and spec of a policy that restricts the egress of `source`.
fn restricts<'a>(policy: &'a NetworkPolicy, source: &Source<'_>) -> Option<(&'a str, &'a NetworkPolicySpec)> {
    let spec = policy.spec.as_ref()?;
    // An absent podSelector is the empty one: it selects every pod of the namespace.
    let selects = policy.metadata.namespace.as_deref() == Some(source.namespace)
        && spec.pod_selector.as_ref().is_none_or(|selector| selector::matches(selector, source.labels));
    (selects && concerns_egress(spec)).then(|| (policy.metadata.name.as_deref().unwrap_or_default(), spec))
}

/// Whether a policy is about egress: by its `policyTypes`, or where there are none, by having an egress rule.
fn concerns_egress(spec: &NetworkPolicySpec) -> bool {
    match spec.policy_types.as_deref().unwrap_or_default() {
        [] => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        types => types.iter().any(|name| name == "Egress"),
    }
}
