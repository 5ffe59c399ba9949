//! What the observer reads of an event: names, and what egress is allowed to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
    #[serde(rename = "type")]
    pub kind: String,
    /// The object.
    pub object: Object,
}

/// An object.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    /// Names and version.
    pub metadata: Metadata,
    /// Of a NetworkPolicy.
    pub spec: Option<Spec>,
}

/// Names and version.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// resourceVersion.
    pub resource_version: String,
}

/// Egress of a NetworkPolicy.
#[derive(Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    policy_types: Option<Vec<String>>,
    egress: Option<Vec<Rule>>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
struct Rule {
    to: Option<Vec<Peer>>,
    ports: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default, rename_all = "camelCase")]
struct Peer {
    ip_block: Option<Block>,
    pod_selector: Option<serde_json::Value>,
    namespace_selector: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(default)]
struct Block {
    cidr: String,
}

impl Spec {
    fn blocks(&self) -> impl Iterator<Item = &str> {
        let peers = self.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten());
        peers.filter_map(|peer| peer.ip_block.as_ref()).map(|block| block.cidr.as_str())
    }

    /// Every single address that is allowed.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let single = |cidr: &str| {
            let net: IpNet = cidr.parse().ok()?;
            (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
        };
        self.blocks().filter_map(single).collect()
    }

    /// What it allows beyond these addresses and the peers inside the cluster that carry DNS; none if nothing.
    #[must_use]
    pub fn beyond(&self, limit: &BTreeSet<IpAddr>) -> Option<String> {
        let types = self.policy_types.as_deref().unwrap_or_default();
        if !types.iter().any(|kind| kind == "Egress") {
            return Some("Egress is not among the policyTypes: everything is open".to_owned());
        }
        for rule in self.egress.iter().flatten() {
            // No peers, or an empty list of them, is everything (NetworkPolicyEgressRule.to).
            let Some(peers) = rule.to.as_deref().filter(|peers| !peers.is_empty()) else {
                return Some("a rule without peers: everything is open".to_owned());
            };
            for block in peers.iter().filter_map(|peer| peer.ip_block.as_ref()) {
                let net: Option<IpNet> = block.cidr.parse().ok();
                let known =
                    net.is_some_and(|net| net.prefix_len() == net.max_prefix_len() && limit.contains(&net.addr()));
                if !known {
                    return Some(format!("{} was never an answer", block.cidr));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn beyond(spec: serde_json::Value) -> Option<String> {
        let spec: Spec = serde_json::from_value(spec).expect("a spec");
        spec.beyond(&["203.0.113.1".parse().expect("an address")].into())
    }

    #[test]
    fn what_was_answered_is_not_too_much() {
        let dns = json!({"to": [{"namespaceSelector": {}}], "ports": [{"port": 53}]});
        let rule = json!({"to": [{"ipBlock": {"cidr": "203.0.113.1/32"}}]});
        assert_eq!(beyond(json!({"policyTypes": ["Egress"], "egress": [dns, rule]})), None);
        assert_eq!(beyond(json!({"policyTypes": ["Egress"]})), None);
    }

    #[test]
    fn an_open_rule_a_lost_policy_type_and_a_strange_block_are_too_much() {
        for spec in [
            json!({"policyTypes": ["Egress"], "egress": [{}]}),
            json!({"policyTypes": ["Egress"], "egress": [{"to": []}]}),
            json!({"policyTypes": ["Ingress"]}),
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.2/32"}}]}]}),
            json!({"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        ] {
            assert!(beyond(spec.clone()).is_some(), "{spec}");
        }
    }
}
