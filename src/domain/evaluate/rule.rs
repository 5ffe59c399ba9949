//! One egress rule against one connection.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Destination, selector};
use crate::ports::Protocol;

/// A connection, as the rules of a policy see it.
pub(super) struct Connection<'a> {
    /// Namespace of the policy, which a `podSelector` on its own means.
    pub policy_namespace: &'a str,
    pub destination: &'a Destination<'a>,
    pub protocol: Protocol,
    pub port: u16,
}

impl Connection<'_> {
    /// Whether `rule` allows this connection. A list that is absent or empty excludes nothing.
    pub fn matches(&self, rule: &NetworkPolicyEgressRule) -> bool {
        let peers = rule.to.as_deref().unwrap_or_default();
        let ports = rule.ports.as_deref().unwrap_or_default();
        (peers.is_empty() || peers.iter().any(|peer| self.matches_peer(peer)))
            && (ports.is_empty() || ports.iter().any(|port| self.matches_port(port)))
    }

    fn matches_peer(&self, peer: &NetworkPolicyPeer) -> bool {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => self.destination.ip.is_some_and(|ip| contains(block, ip)),
            (None, None, None) | (Some(_), _, _) => false,
            (None, namespaces, pods) => self.matches_pod(namespaces.as_ref(), pods.as_ref()),
        }
    }

    fn matches_pod(&self, namespaces: Option<&LabelSelector>, pods: Option<&LabelSelector>) -> bool {
        let Some(pod) = &self.destination.pod else { return false };
        let namespace_matches = match namespaces {
            Some(namespaces) => selector::matches(namespaces, pod.namespace_labels),
            None => pod.namespace == self.policy_namespace,
        };
        namespace_matches && pods.is_none_or(|pods| selector::matches(pods, pod.labels))
    }

    fn matches_port(&self, port: &NetworkPolicyPort) -> bool {
        let number = i32::from(self.port);
        port.protocol.as_deref().unwrap_or("TCP") == self.protocol.as_str()
            && match (&port.port, port.end_port) {
                (None, None) => true,
                (Some(IntOrString::Int(only)), None) => *only == number,
                (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&number),
                (Some(IntOrString::String(name)), None) => self.named_port(name) == Some(self.port),
                (None | Some(IntOrString::String(_)), Some(_)) => false,
            }
    }

    fn named_port(&self, name: &str) -> Option<u16> {
        self.destination.pod?.named_ports.get(&(name.to_owned(), self.protocol)).copied()
    }
}

/// Whether `block` has `ip` and none of its exceptions does.
fn contains(block: &IPBlock, ip: IpAddr) -> bool {
    let parse = |cidr: &String| cidr.parse::<IpNet>().ok();
    let Some(cidr) = parse(&block.cidr) else { return false };
    // An exception that cannot be read might be the very one that excludes this address.
    cidr.contains(&ip)
        && block.except.iter().flatten().all(|except| parse(except).is_some_and(|except| !except.contains(&ip)))
}
