//! What watches tell of the cluster, and what follows from it: the pods' DNS path, the guard rail, the families, and
//! which DNS servers pods meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::dns_egress::{DNS_PORT, DnsEgress};
use super::families::IpFamilies;
use super::{Cluster, DnsRule, dns_ports};
use crate::answer::{Families, Family};
use crate::fqdn::Fqdn;
use crate::guard::GuardRail;

/// Where the cluster's DNS runs on nearly every distribution.
pub const KUBE_SYSTEM: &str = "kube-system";
/// Where OpenShift's DNS runs.
pub const OPENSHIFT_DNS: &str = "openshift-dns";

/// Everything that this process knows of the cluster around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterFacts {
    /// Blocks of every ServiceCIDR object.
    pub service_cidrs: Vec<IpNet>,
    /// Every Node.
    pub nodes: Vec<NodeFacts>,
    /// Every DNS Service.
    pub dns_services: Vec<DnsService>,
    /// EndpointSlices of the DNS namespaces; those of other Services are ignored here.
    pub slices: Vec<DnsSlice>,
    /// Whether the namespace `openshift-dns` exists.
    pub openshift_dns: bool,
    /// Nameservers of this pod's own resolv.conf; none outside a pod.
    pub nameservers: Vec<IpAddr>,
}

/// One thing that a watch tells; [`ClusterFacts`] collects them.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// Blocks of one ServiceCIDR object.
    ServiceCidr(Vec<IpNet>),
    /// A Node.
    Node(NodeFacts),
    /// A DNS Service.
    DnsService(DnsService),
    /// An EndpointSlice of a DNS namespace.
    Slice(DnsSlice),
    /// The namespace `openshift-dns` exists.
    OpenshiftDns,
}

/// What a Node tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Blocks of its pods.
    pub pod_cidrs: Vec<IpNet>,
    /// Addresses of type InternalIP.
    pub internal: Vec<IpAddr>,
    /// Addresses of type ExternalIP.
    pub external: Vec<IpAddr>,
}

/// A Service that answers DNS queries on port 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its virtual addresses; none of a headless one.
    pub cluster_ips: Vec<IpAddr>,
    /// Names of its ports that are number 53: the same names mark the target ports in its EndpointSlices.
    pub port_names: BTreeSet<String>,
    /// Where those ports lead, as far as the Service says it by number: known also while there is no EndpointSlice.
    pub target_ports: BTreeSet<u16>,
}

/// An EndpointSlice, reduced to what DNS needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSlice {
    /// Its namespace.
    pub namespace: String,
    /// The Service it belongs to.
    pub service: String,
    /// Target ports.
    pub ports: Vec<SlicePort>,
    /// Ready endpoints.
    pub ready: Vec<ReadyEndpoint>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port; empty when that has none.
    pub name: String,
    /// Whether it is a UDP port.
    pub udp: bool,
    /// Where the endpoint listens.
    pub port: u16,
}

/// One ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyEndpoint {
    /// Its first address; the API gives the others no meaning.
    pub address: IpAddr,
    /// The uid of the Pod behind it.
    pub pod: Option<String>,
}

/// What flags say of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFlags {
    /// `--dns-egress`.
    pub dns_egress: DnsEgress,
    /// `--ip-families`.
    pub ip_families: IpFamilies,
    /// `--deny-answer-cidr`.
    pub deny_answer_cidrs: Vec<IpNet>,
    /// `--cluster-domain`.
    pub cluster_domain: Fqdn,
}

impl ClusterFacts {
    /// Adds what a watch tells.
    pub fn add(&mut self, fact: Fact) {
        match fact {
            Fact::ServiceCidr(blocks) => self.service_cidrs.extend(blocks),
            Fact::Node(node) => self.nodes.push(node),
            Fact::DnsService(service) => self.dns_services.push(service),
            Fact::Slice(slice) => self.slices.push(slice),
            Fact::OpenshiftDns => self.openshift_dns = true,
        }
    }

    /// EndpointSlices of DNS Services, each with those of its ports that answer DNS.
    fn dns_slices(&self) -> impl Iterator<Item = (&DnsSlice, Vec<&SlicePort>)> {
        let services: BTreeMap<(&str, &str), &DnsService> =
            self.dns_services.iter().map(|s| ((s.namespace.as_str(), s.name.as_str()), s)).collect();
        self.slices.iter().filter_map(move |slice| {
            let service = services.get(&(slice.namespace.as_str(), slice.service.as_str()))?;
            let ports = slice.ports.iter().filter(|port| service.port_names.contains(&port.name));
            Some((slice, ports.collect()))
        })
    }

    /// Families that Services, pods and Nodes of the cluster have.
    fn families(&self) -> Families {
        let pods = self.nodes.iter().flat_map(|node| &node.pod_cidrs);
        let blocks = self.service_cidrs.iter().chain(pods).map(IpNet::addr);
        let internal = self.nodes.iter().flat_map(|node| &node.internal).copied();
        let known: Vec<Family> = blocks.chain(internal).map(|address| Family::of(&address)).collect();
        Families { v4: known.contains(&Family::V4), v6: known.contains(&Family::V6) }
    }

    fn guard(&self, denied: &[IpNet]) -> GuardRail {
        let pods: Vec<IpNet> = self.nodes.iter().flat_map(|node| &node.pod_cidrs).copied().collect();
        let nodes = self.nodes.iter().flat_map(|node| node.internal.iter().chain(&node.external));
        GuardRail {
            services: sorted(self.service_cidrs.iter().copied()),
            // Adjacent blocks become one: thousands of Nodes share a few wide blocks.
            pods: IpNet::aggregate(&pods),
            nodes: sorted(nodes.copied()),
            denied: sorted(denied.iter().copied()),
        }
    }

    fn auto_dns(&self, families: Families) -> Vec<DnsRule> {
        let mut namespaces = vec![KUBE_SYSTEM.to_owned()];
        if self.openshift_dns {
            namespaces.push(OPENSHIFT_DNS.to_owned());
        }
        let of_slices = self.dns_slices().flat_map(|(_, ports)| ports).map(|port| port.port);
        let of_services = self.dns_services.iter().flat_map(|service| service.target_ports.iter().copied());
        let targets = of_slices.chain(of_services);
        let servers = DnsRule {
            namespaces,
            ports: dns_ports(targets.chain([DNS_PORT])).unwrap_or(Cluster::seed_dns_rule().ports),
            ..Cluster::seed_dns_rule()
        };
        let cluster_ips = self.dns_services.iter().flat_map(|service| &service.cluster_ips);
        // A loopback address in resolv.conf is the pod's own, and no NetworkPolicy governs it.
        let nameservers = self.nameservers.iter().filter(|address| !address.is_loopback() && !address.is_unspecified());
        let addresses = cluster_ips.chain(nameservers).filter(|address| families.has(Family::of(address)));
        let virtual_addresses = DnsRule {
            namespaces: Vec::new(),
            blocks: sorted(addresses.copied().map(IpNet::from)),
            ..Cluster::seed_dns_rule()
        };
        let has_addresses = !virtual_addresses.blocks.is_empty();
        [servers].into_iter().chain(has_addresses.then_some(virtual_addresses)).collect()
    }
}

/// The cluster as the machines see it.
pub fn cluster(facts: &ClusterFacts, flags: &ClusterFlags) -> Cluster {
    let families = flags.ip_families.choose(facts.families());
    let dns = match &flags.dns_egress {
        DnsEgress::Auto => facts.auto_dns(families),
        DnsEgress::Seed => vec![Cluster::seed_dns_rule()],
        DnsEgress::List(rule) => vec![rule.clone()],
    };
    Cluster { dns, guard: facts.guard(&flags.deny_answer_cidrs), families, domain: flags.cluster_domain.clone() }
}

/// Every ready endpoint of the DNS Services, sorted: the servers whose answers pods get.
///
/// In a dual-stack cluster each Pod is in two slices; it is one server, asked at its IPv4 address.
pub fn dns_servers(facts: &ClusterFacts) -> Vec<SocketAddr> {
    let mut anonymous = Vec::new();
    let mut of_pods: BTreeMap<(&str, u16), SocketAddr> = BTreeMap::new();
    for (slice, ports) in facts.dns_slices() {
        // The resolver asks by UDP first, and TCP answers at the same port.
        let has_udp = ports.iter().any(|port| port.udp);
        for port in ports.iter().filter(|port| port.udp == has_udp) {
            for endpoint in &slice.ready {
                let server = SocketAddr::new(endpoint.address, port.port);
                match &endpoint.pod {
                    None => anonymous.push(server),
                    Some(pod) => {
                        let present = of_pods.entry((pod, port.port)).or_insert(server);
                        *present = server.min(*present);
                    }
                }
            }
        }
    }
    sorted(anonymous.into_iter().chain(of_pods.into_values()))
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<T>>().into_iter().collect()
}
