//! A random spec: what a person asks for, and what that justifies, written down without the code under test.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

pub(super) const NAMES: [&str; 3] = ["a.example", "b.example", "c.example"];

type Port = (&'static str, u16, u16);
/// Port lists of a destination; the empty one reads as TCP 443.
const PORTS: [&[Port]; 4] =
    [&[], &[("TCP", 443, 443)], &[("UDP", 53, 53), ("TCP", 8_000, 8_010)], &[("SCTP", 9, 9), ("TCP", 443, 443)]];

/// Destinations without a host, each with the peer that it justifies. The blocks meet the addresses of the answers.
const FIXED: [(&str, &str); 7] = [
    (r#"{"ip":"198.51.100.7"}"#, r#"{"ipBlock":{"cidr":"198.51.100.7/32"}}"#),
    (r#"{"ip":"2001:db8::7"}"#, r#"{"ipBlock":{"cidr":"2001:db8::7/128"}}"#),
    (r#"{"cidr":"192.0.2.0/30"}"#, r#"{"ipBlock":{"cidr":"192.0.2.0/30"}}"#),
    (
        r#"{"cidr":"192.0.2.0/24","except":["192.0.2.3/32"]}"#,
        r#"{"ipBlock":{"cidr":"192.0.2.0/24","except":["192.0.2.3/32"]}}"#,
    ),
    (r#"{"cidr":"2001:db8::/125"}"#, r#"{"ipBlock":{"cidr":"2001:db8::/125"}}"#),
    (
        r#"{"namespace":{"name":"shared"}}"#,
        r#"{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"shared"}}}"#,
    ),
    (
        r#"{"namespace":{"name":"shared","podSelector":{"matchLabels":{"app":"db"}}}}"#,
        r#"{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"shared"}},"podSelector":{"matchLabels":{"app":"db"}}}"#,
    ),
];
const NAMESPACES: [&str; 2] = ["backup-tools", "shared"];
const SELECTORS: [&str; 2] = ["{}", r#"{"matchLabels":{"app":"web"}}"#];
/// None, without checkpoints, with them, and the default.
const RETENTIONS: [u64; 5] = [0, 600, 3_600, 20 * 3_600, 7 * 86_400];

/// (peer, ports): one thing that a rule opens.
pub(super) type Opening = (String, String);

#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Indices of [`NAMES`] and [`PORTS`].
    hosts: Vec<(usize, usize)>,
    /// Indices of [`FIXED`] and [`PORTS`].
    fixed: Vec<(usize, usize)>,
    namespaces: Vec<&'static str>,
    selector: &'static str,
    pub(super) dry: bool,
    pub(super) retention: u64,
}

/// One in eight is a dry run.
pub(super) fn wanted() -> impl Strategy<Value = Wanted> {
    let ports = || 0..PORTS.len();
    (
        vec((0..NAMES.len(), ports()), 0..5),
        vec((0..FIXED.len(), ports()), 0..3),
        vec(select(&NAMESPACES[..]), 0..2),
        select(&SELECTORS[..]),
        prop::bool::weighted(0.125),
        select(&RETENTIONS[..]),
    )
        .prop_map(|(hosts, fixed, namespaces, selector, dry, retention)| Wanted {
            hosts,
            fixed,
            namespaces,
            selector,
            dry,
            retention,
        })
}

impl Wanted {
    /// Every name at the default port, for an hour.
    pub(super) fn every_name() -> Self {
        let hosts = (0..NAMES.len()).map(|n| (n, 0)).collect();
        Self { hosts, fixed: vec![], namespaces: vec![], selector: SELECTORS[0], dry: false, retention: 3_600 }
    }

    /// Peers of every block that a spec may hold itself.
    pub(super) fn fixed_cidrs() -> BTreeSet<String> {
        FIXED.iter().map(|(_, peer)| parsed(peer)).collect()
    }

    pub(super) fn names(&self, n: usize) -> bool {
        self.hosts.iter().any(|(named, _)| *named == n)
    }

    pub(super) fn json(&self) -> Value {
        let with_ports = |mut destination: Value, at: usize| {
            let port = |(protocol, port, end): &Port| json!({"protocol": protocol, "port": port, "endPort": end});
            destination["ports"] = PORTS[at].iter().map(port).collect();
            destination
        };
        let hosts = self.hosts.iter().map(|(n, at)| with_ports(json!({"hostname": NAMES[*n]}), *at));
        let fixed = self.fixed.iter().map(|(n, at)| with_ports(serde_json::from_str(FIXED[*n].0).unwrap(), *at));
        json!({
            "destinations": hosts.chain(fixed).collect::<Vec<_>>(),
            "namespaces": self.namespaces,
            "podSelector": self.selector(),
            "mode": if self.dry { "DryRun" } else { "Enforce" },
            "retentionSeconds": self.retention,
        })
    }

    pub(super) fn selector(&self) -> Value {
        serde_json::from_str(self.selector).unwrap()
    }

    /// Ports that the spec opens for a host.
    pub(super) fn ports_of(&self, n: usize) -> BTreeSet<String> {
        self.hosts.iter().filter(|(named, _)| *named == n).flat_map(|(_, at)| port_texts(*at)).collect()
    }

    /// Everything that may be open: the DNS rule, what stands in the spec, and these answers of its hosts.
    pub(super) fn justifies(&self, answered: &BTreeSet<(usize, IpAddr)>) -> BTreeSet<Opening> {
        let namespace = |name: &str| {
            parsed(&format!(r#"{{"namespaceSelector":{{"matchLabels":{{"kubernetes.io/metadata.name":"{name}"}}}}}}"#))
        };
        let dns = ["TCP 53-53", "UDP 53-53"].map(|port| (namespace("kube-system"), port.to_owned()));
        let fixed = self.fixed.iter().flat_map(|(n, at)| port_texts(*at).map(move |port| (parsed(FIXED[*n].1), port)));
        let shorthand = self.namespaces.iter().map(|name| (namespace(name), "any".to_owned()));
        let learned = answered.iter().flat_map(|(n, address)| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let peer = parsed(&format!(r#"{{"ipBlock":{{"cidr":"{address}/{length}"}}}}"#));
            self.ports_of(*n).into_iter().map(move |port| (peer.clone(), port))
        });
        dns.into_iter().chain(fixed).chain(shorthand).chain(learned).collect()
    }
}

fn port_texts(at: usize) -> impl Iterator<Item = String> {
    let ports: &[Port] = if PORTS[at].is_empty() { &[("TCP", 443, 443)] } else { PORTS[at] };
    ports.iter().map(|(protocol, port, end)| format!("{protocol} {port}-{end}"))
}

fn parsed(peer: &str) -> String {
    peer_text(&serde_json::from_str(peer).unwrap())
}

fn peer_text(peer: &NetworkPolicyPeer) -> String {
    serde_json::to_string(peer).unwrap()
}

pub(super) fn port_text(port: &NetworkPolicyPort) -> String {
    let NetworkPolicyPort { protocol, port: Some(IntOrString::Int(first)), end_port } = port else {
        return format!("{port:?}");
    };
    format!("{} {first}-{}", protocol.as_deref().unwrap_or("TCP"), end_port.unwrap_or(*first))
}

/// Everything that a spec opens.
pub(super) fn opened(spec: &NetworkPolicySpec) -> BTreeSet<Opening> {
    let rules = spec.egress.iter().flatten();
    rules
        .flat_map(|rule| {
            let ports = rule.ports.as_ref().map_or(vec!["any".to_owned()], |all| all.iter().map(port_text).collect());
            let peers = rule.to.iter().flatten().map(peer_text);
            peers.flat_map(move |peer| ports.clone().into_iter().map(move |port| (peer.clone(), port)))
        })
        .collect()
}
