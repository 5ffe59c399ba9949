//! The exact shape of the NetworkPolicies that the Python operator left behind.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::render::NAMESPACE_NAME_LABEL;

/// No metadata of its own, all pods, Egress only: a DNS rule to kube-system, a rule of /32 blocks on TCP 443, then one
/// rule per namespace without ports.
pub(super) fn is_of_seed(object: &NetworkPolicy) -> bool {
    let metadata = &object.metadata;
    let bare = metadata.labels.as_ref().is_none_or(|labels| labels.is_empty())
        && metadata.annotations.as_ref().is_none_or(|annotations| annotations.is_empty())
        && metadata.owner_references.as_ref().is_none_or(|owners| owners.is_empty());
    let Some(spec) = object.spec.as_ref().filter(|_| bare) else { return false };
    let selects_all = spec.pod_selector.as_ref().is_none_or(|selector| *selector == LabelSelector::default());
    let egress_only = spec.policy_types.as_deref() == Some(&["Egress".to_owned()]) && spec.ingress.is_none();
    let [dns, addresses, namespaces @ ..] = spec.egress.as_deref().unwrap_or_default() else { return false };
    selects_all
        && egress_only
        && is_namespace_rule(dns, Some("kube-system"), &[("TCP", 53), ("UDP", 53)])
        && is_address_rule(addresses)
        && namespaces.iter().all(|rule| is_namespace_rule(rule, None, &[]))
}

fn is_address_rule(rule: &NetworkPolicyEgressRule) -> bool {
    let peers = rule.to.as_deref().unwrap_or_default();
    let single = |peer: &NetworkPolicyPeer| {
        peer.namespace_selector.is_none()
            && peer.pod_selector.is_none()
            && peer.ip_block.as_ref().is_some_and(|block| block.except.is_none() && block.cidr.ends_with("/32"))
    };
    !peers.is_empty() && peers.iter().all(single) && has_ports(rule, &[("TCP", 443)])
}

fn is_namespace_rule(rule: &NetworkPolicyEgressRule, name: Option<&str>, ports: &[(&str, i32)]) -> bool {
    let [peer] = rule.to.as_deref().unwrap_or_default() else { return false };
    let by_labels = peer.namespace_selector.as_ref().filter(|s| s.match_expressions.as_ref().is_none_or(Vec::is_empty));
    let labels = by_labels.and_then(|selector| selector.match_labels.as_ref());
    let named = labels.filter(|labels| labels.len() == 1).and_then(|labels| labels.get(NAMESPACE_NAME_LABEL));
    named.is_some_and(|value| name.is_none_or(|name| value == name))
        && peer.ip_block.is_none()
        && peer.pod_selector.is_none()
        && has_ports(rule, ports)
}

fn has_ports(rule: &NetworkPolicyEgressRule, expected: &[(&str, i32)]) -> bool {
    let mut ports: Vec<(&str, i32)> = Vec::new();
    for port in rule.ports.iter().flatten() {
        let NetworkPolicyPort { protocol, port: Some(IntOrString::Int(number)), end_port: None } = port else {
            return false;
        };
        ports.push((protocol.as_deref().unwrap_or("TCP"), *number));
    }
    ports.sort_unstable();
    ports == expected
}
