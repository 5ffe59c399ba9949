//! What the domain must know of the cluster around it: DNS peers of the pods, guard rail, families.

use std::collections::BTreeSet;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::answer::Families;
use crate::fqdn::Fqdn;
use crate::guard::GuardRail;
use crate::ports::{PortRange, PortSet, Protocol};

pub mod dns_egress;
pub mod facts;
pub mod families;
pub mod objects;

pub use dns_egress::DnsEgress;
pub use families::IpFamilies;

/// Where pods may send DNS queries: one rule each in every NetworkPolicy, before all others.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsRule {
    /// Namespaces by name, sorted.
    pub namespaces: Vec<String>,
    /// Namespace and pod selectors that an administrator gave.
    pub selectors: Vec<LabelSelector>,
    /// Blocks, sorted.
    pub blocks: Vec<IpNet>,
    /// Ports of the rule.
    pub ports: PortSet,
}

/// UDP and TCP on each of these ports (RFC 7766: DNS needs both).
pub fn dns_ports(ports: impl IntoIterator<Item = u16>) -> Option<PortSet> {
    let ports: BTreeSet<u16> = ports.into_iter().collect();
    let ranges = ports
        .into_iter()
        .flat_map(|port| [Protocol::Udp, Protocol::Tcp].map(|protocol| PortRange { protocol, port, end: port }));
    PortSet::new(ranges.collect())
}

/// The cluster, as flags and watches tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// DNS path of the pods.
    pub dns: Vec<DnsRule>,
    /// Addresses that DNS answers may not open.
    pub guard: GuardRail,
    /// Families that are looked up and written.
    pub families: Families,
    /// Names below it are of the cluster itself.
    pub domain: Fqdn,
}

impl Cluster {
    /// The Python operator's DNS rule: kube-system on 53, UDP and TCP.
    pub fn seed_dns_rule() -> DnsRule {
        DnsRule {
            namespaces: vec!["kube-system".to_owned()],
            selectors: Vec::new(),
            blocks: Vec::new(),
            ports: dns_ports([53]).unwrap_or_else(|| PortSet::single(Protocol::Udp, 53)),
        }
    }
}

#[cfg(test)]
mod tests;
