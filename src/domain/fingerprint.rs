//! Canonical comparison of NetworkPolicy specs: order of rules, peers and ports means nothing, nor does what the API
//! server fills in. A fingerprint lives in memory only; nothing compares a stored hash (I4).

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::networking::v1::{
    NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// 64 bits that are equal for specs that mean the same text in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a spec.
    pub fn of(spec: &NetworkPolicySpec) -> Self {
        let NetworkPolicySpec { egress, ingress, pod_selector, policy_types } = spec;
        Self(hash(|h| {
            unordered(policy_types.as_deref(), |t, h| t.hash(h)).hash(h);
            selector(pod_selector.as_ref()).hash(h);
            unordered(egress.as_deref(), rule).hash(h);
            // We never write ingress rules, and an apply cannot take away those that another manager owns: without
            // their policy type they mean nothing, with it whatever they say differs from nothing.
            let has_ingress = policy_types.as_ref().is_none_or(|types| types.iter().any(|t| t == "Ingress"));
            let rules = ingress.as_ref().filter(|rules| has_ingress && !rules.is_empty());
            rules.map(|rules| format!("{rules:?}")).hash(h);
        }))
    }
}

/// The hash of what is fed: the same in every process.
pub(crate) fn hash(feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(&mut hasher);
    hasher.finish()
}

/// Hashes of the items, sorted; an absent list is the empty one.
fn unordered<T>(items: Option<&[T]>, feed: impl Fn(&T, &mut DefaultHasher)) -> Vec<u64> {
    let mut hashes: Vec<u64> = items.unwrap_or_default().iter().map(|item| hash(|h| feed(item, h))).collect();
    hashes.sort_unstable();
    hashes
}

fn rule(rule: &NetworkPolicyEgressRule, h: &mut DefaultHasher) {
    unordered(rule.to.as_deref(), peer).hash(h);
    unordered(rule.ports.as_deref(), port).hash(h);
}

fn peer(peer: &NetworkPolicyPeer, h: &mut DefaultHasher) {
    let NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = peer;
    if let Some(block) = ip_block {
        block.cidr.hash(h);
        unordered(block.except.as_deref(), |e, h| e.hash(h)).hash(h);
    }
    selector_if_present(namespace_selector.as_ref()).hash(h);
    selector_if_present(pod_selector.as_ref()).hash(h);
}

fn port(port: &NetworkPolicyPort, h: &mut DefaultHasher) {
    let NetworkPolicyPort { protocol, port, end_port } = port;
    protocol.as_deref().unwrap_or("TCP").hash(h);
    end_port.hash(h);
    match port {
        None => 0_u8.hash(h),
        Some(IntOrString::Int(number)) => (1_u8, number).hash(h),
        Some(IntOrString::String(name)) => (2_u8, name).hash(h),
    }
}

/// In a peer an absent selector and an empty one differ: the empty one selects everything.
fn selector_if_present(labels: Option<&LabelSelector>) -> Option<u64> {
    labels.map(|labels| selector(Some(labels)))
}

fn selector(labels: Option<&LabelSelector>) -> u64 {
    hash(|h| {
        let Some(LabelSelector { match_labels, match_expressions }) = labels else { return };
        for pair in match_labels.iter().flatten() {
            pair.hash(h);
        }
        for hash in unordered(match_expressions.as_deref(), |e, h| {
            (&e.key, &e.operator).hash(h);
            unordered(e.values.as_deref(), |v, h| v.hash(h)).hash(h);
        }) {
            hash.hash(h);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(left: serde_json::Value, right: serde_json::Value, equal: bool) {
        let of = |value| Fingerprint::of(&serde_json::from_value::<NetworkPolicySpec>(value).unwrap());
        assert_eq!(of(left.clone()) == of(right.clone()), equal, "{left} and {right}");
    }

    #[test]
    fn order_and_server_defaults_mean_nothing() {
        check(
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
                {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}, {"ipBlock": {"cidr": "192.0.2.2/32"}}],
                 "ports": [{"port": 443}, {"port": 53, "protocol": "UDP"}]},
                {"to": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}]}),
            json!({"policyTypes": ["Egress"], "egress": [
                {"to": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}], "ports": []},
                {"to": [{"ipBlock": {"cidr": "192.0.2.2/32"}}, {"ipBlock": {"cidr": "192.0.2.1/32"}}],
                 "ports": [{"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]}]}),
            true,
        );
        check(json!({"policyTypes": ["Egress"], "egress": []}), json!({"policyTypes": ["Egress"]}), true);
    }

    #[test]
    fn what_changes_the_meaning_changes_the_fingerprint() {
        let base = json!({"policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}]});
        for (path, value) in [
            ("/policyTypes/0", json!("Ingress")),
            ("/egress/0/to/0/ipBlock/cidr", json!("192.0.2.0/25")),
            ("/egress/0/to/0", json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}})),
            ("/egress/0/to/0", json!({"podSelector": {}})),
            ("/egress/0/ports/0", json!({"port": 443, "endPort": 444})),
            ("/egress/0/ports/0", json!({"port": "https"})),
            ("/egress/0/ports/0/port", json!(444)),
            ("/egress/0", json!({})),
        ] {
            let mut changed = base.clone();
            *changed.pointer_mut(path).unwrap() = value;
            check(base.clone(), changed, false);
        }
        check(
            json!({"egress": [{"to": [{"podSelector": {}}]}]}),
            json!({"egress": [{"to": [{"namespaceSelector": {}}]}]}),
            false,
        );
        check(json!({"podSelector": {"matchLabels": {"a": "b"}}}), json!({"podSelector": {}}), false);
        let both = ["Ingress", "Egress"];
        check(json!({"policyTypes": both, "ingress": [{}]}), json!({"policyTypes": both}), false);
        check(json!({"ingress": [{}]}), json!({}), false);
    }

    #[test]
    fn ingress_rules_without_their_policy_type_mean_nothing() {
        check(json!({"policyTypes": ["Egress"], "ingress": [{}]}), json!({"policyTypes": ["Egress"]}), true);
    }
}
