//! (ValidatedPolicy, AddressBook, Cluster) -> NetworkPolicySpec, canonical: the order of nothing in the input matters.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::answer::{Families, Family};
use crate::book::AddressBook;
use crate::cluster::{Cluster, DnsRule};
use crate::policy::{Block, NamespacePeer, ValidatedPolicy};
use crate::ports::{PortRange, PortSet};

/// Label that the API server puts on every namespace (KEP-2161).
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The NetworkPolicy spec that this policy and this book justify, and nothing wider (I2): the DNS rule, one rule per
/// distinct port set, then the namespace peers. Never an empty list anywhere (I1).
pub fn render(policy: &ValidatedPolicy, book: &AddressBook, cluster: &Cluster) -> NetworkPolicySpec {
    let mut rules: Vec<NetworkPolicyEgressRule> = cluster.dns.iter().filter_map(dns_rule).collect();
    rules.extend(address_rules(policy, book, cluster.families));
    rules.extend(namespace_rules(&policy.namespaces));
    NetworkPolicySpec {
        pod_selector: Some(policy.pod_selector.clone()),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: (!rules.is_empty()).then_some(rules),
        ingress: None,
    }
}

/// Denies all egress of a namespace. The `egress` field is absent: the API server raises the resourceVersion on every
/// apply of an empty list (kubernetes#131175).
pub fn render_default_deny() -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(LabelSelector::default()),
        policy_types: Some(vec!["Egress".to_owned()]),
        egress: None,
        ingress: None,
    }
}

fn dns_rule(rule: &DnsRule) -> Option<NetworkPolicyEgressRule> {
    let namespaces = rule.namespaces.iter().map(|name| namespace_peer(name, None));
    let selectors = rule.selectors.iter().map(|selector| NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(selector.clone()),
        ip_block: None,
    });
    let blocks = rule.blocks.iter().map(|net| block_peer(&Block { net: *net, except: Vec::new() }));
    egress_rule(namespaces.chain(selectors).chain(blocks).collect(), Some(&rule.ports))
}

fn address_rules(
    policy: &ValidatedPolicy,
    book: &AddressBook,
    families: Families,
) -> impl Iterator<Item = NetworkPolicyEgressRule> {
    let mut by_ports: BTreeMap<&PortSet, BTreeSet<Block>> = BTreeMap::new();
    for (ports, block) in &policy.blocks {
        by_ports.entry(ports).or_default().insert(block.clone());
    }
    for (host, ports) in &policy.hosts {
        for address in book.addresses(host) {
            by_ports.entry(ports).or_default().insert(Block::host(address));
        }
    }
    by_ports.into_iter().filter_map(move |(ports, blocks)| {
        let blocks: Vec<Block> = blocks.into_iter().filter(|b| families.has(Family::of(&b.net.addr()))).collect();
        egress_rule(without_covered(&blocks).map(block_peer).collect(), Some(ports))
    })
}

/// Drops every block that lies inside another one which has no holes.
fn without_covered(sorted: &[Block]) -> impl Iterator<Item = &Block> {
    let whole: Vec<&Block> = sorted.iter().filter(|b| b.except.is_empty()).collect();
    // Networks sort by first address, then length, so of the whole blocks only the last distinct outermost can cover.
    let mut outermost: Vec<&Block> = Vec::new();
    for block in whole {
        if !outermost.last().is_some_and(|last| last.net.contains(&block.net)) {
            outermost.push(block);
        }
    }
    sorted.iter().filter(move |block| {
        let at = outermost.partition_point(|other| other.net.network() <= block.net.network());
        let cover = at.checked_sub(1).and_then(|at| outermost.get(at));
        !cover.is_some_and(|cover| *cover != *block && cover.net.contains(&block.net))
    })
}

fn namespace_rules(peers: &[NamespacePeer]) -> impl Iterator<Item = NetworkPolicyEgressRule> {
    let mut by_ports: BTreeMap<Option<&PortSet>, Vec<NetworkPolicyPeer>> = BTreeMap::new();
    for peer in peers {
        let rendered = namespace_peer(&peer.name, peer.pod_selector.clone());
        by_ports.entry(peer.ports.as_ref()).or_default().push(rendered);
    }
    by_ports.into_iter().filter_map(|(ports, peers)| egress_rule(peers, ports))
}

/// A rule, or none without peers: an empty `to` would allow every destination (I1).
fn egress_rule(to: Vec<NetworkPolicyPeer>, ports: Option<&PortSet>) -> Option<NetworkPolicyEgressRule> {
    (!to.is_empty()).then(|| NetworkPolicyEgressRule {
        to: Some(to),
        ports: ports.map(|ports| ports.ranges().iter().map(network_policy_port).collect()),
    })
}

fn namespace_peer(name: &str, pod_selector: Option<LabelSelector>) -> NetworkPolicyPeer {
    let labels = BTreeMap::from([(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())]);
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: Some(labels), match_expressions: None }),
        pod_selector,
        ip_block: None,
    }
}

fn block_peer(block: &Block) -> NetworkPolicyPeer {
    let except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: block.net.to_string(), except: (!except.is_empty()).then_some(except) }),
        namespace_selector: None,
        pod_selector: None,
    }
}

fn network_policy_port(range: &PortRange) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(range.protocol.as_str().to_owned()),
        port: Some(IntOrString::Int(range.port.into())),
        end_port: (range.end != range.port).then(|| range.end.into()),
    }
}

#[cfg(test)]
mod tests;
