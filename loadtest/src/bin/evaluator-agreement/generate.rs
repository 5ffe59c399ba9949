//! Random policies and connections that meet each other often: few names, and addresses and ports at the edges of what
//! the policies allow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egress_domain::evaluate::{Labels, NamedPorts};
use egress_domain::ports::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::case::{Case, Pod, PolicySet};

/// Most policies are of the first namespace, and most sources too.
const NAMESPACES: [&str; 3] = ["shop", "data", "tools"];
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const KEYS: [&str; 2] = ["app", "tier"];
/// The empty value is legal.
const VALUES: [&str; 5] = ["a", "a", "b", "b", ""];
const PROTOCOLS: [Protocol; 4] = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// Port names, and numbers that a pod may give them; no number has two names.
const NAMED_PORTS: [(&str, [u16; 2]); 3] = [("web", [80, 8080]), ("dns", [53, 5353]), ("sql", [5432, 3306])];
const IPV4_PREFIXES: [u8; 10] = [0, 8, 16, 22, 24, 27, 30, 31, 32, 32];
const IPV6_PREFIXES: [u8; 10] = [0, 16, 32, 48, 64, 96, 120, 126, 127, 128];

/// A source of random cases: the same seed gives the same cases on every machine.
pub struct Generator(Xoshiro256PlusPlus);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Random policies with this many random connections.
    pub fn policy_set(&mut self, cases: usize) -> PolicySet {
        let namespaces = NAMESPACES.map(|name| {
            let mut labels = self.labels();
            labels.insert(NAMESPACE_NAME.to_owned(), name.to_owned());
            (name, labels)
        });
        let pods: Vec<_> = (0..8).map(|_| self.pod(&namespaces)).collect();
        let policies: Vec<_> = (0..=self.up_to(4)).map(|i| self.policy(i)).collect();
        let (addresses, ports) = edges(&policies);
        let cases = (0..cases).map(|_| self.case(&pods, &addresses, &ports)).collect();
        PolicySet { policies, cases }
    }

    fn case(&mut self, pods: &[Pod], addresses: &[IpAddr], ports: &[u16]) -> Case {
        let busy: Vec<_> = pods.iter().filter(|pod| pod.namespace == NAMESPACES[0]).cloned().collect();
        let source = if busy.is_empty() || self.chance(0.3) { self.one_of(pods) } else { self.one_of(&busy) };
        let pod = self.chance(0.4).then(|| self.one_of(pods));
        let ip = match &pod {
            Some(pod) => pod.ip,
            None if addresses.is_empty() || self.chance(0.2) => self.address(),
            None => self.one_of(addresses),
        };
        let ip = match ip {
            IpAddr::V4(v4) if pod.is_none() && self.chance(0.2) => v4.to_ipv6_mapped().into(),
            ip => ip,
        };
        let named: Vec<_> = pod.iter().flat_map(|pod| &pod.named_ports).map(|((_, p), n)| (*p, *n)).collect();
        let (protocol, port) = match self.up_to(3) {
            0 if !named.is_empty() => self.one_of(&named),
            1 => (self.one_of(&PROTOCOLS), self.0.random_range(1..=u16::MAX)),
            _ if ports.is_empty() => (self.one_of(&PROTOCOLS), 443),
            _ => (self.one_of(&PROTOCOLS), self.one_of(ports)),
        };
        Case { source, ip, pod, protocol, port }
    }

    fn pod(&mut self, namespaces: &[(&'static str, Labels)]) -> Pod {
        let (namespace, namespace_labels) = self.one_of(namespaces);
        let mut named_ports = NamedPorts::new();
        for (name, numbers) in NAMED_PORTS {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if self.chance(0.4) {
                    named_ports.insert((name.to_owned(), protocol), self.one_of(&numbers));
                }
            }
        }
        Pod { namespace, namespace_labels, labels: self.labels(), ip: self.address(), named_ports }
    }

    fn policy(&mut self, index: usize) -> NetworkPolicy {
        let (ingress, egress) = ("Ingress".to_owned(), "Egress".to_owned());
        let policy_types = match self.up_to(9) {
            0 => Some(vec![]),
            1 => None,
            2 => Some(vec![ingress]),
            3 | 4 => Some(vec![ingress, egress]),
            _ => Some(vec![egress]),
        };
        let egress = self.chance(0.85).then(|| (0..self.up_to(3)).map(|_| self.rule()).collect());
        let pod_selector = Some(if self.chance(0.5) { LabelSelector::default() } else { self.selector() });
        let mut policy = NetworkPolicy::default();
        policy.metadata.name = Some(format!("p{index}"));
        let namespace = if self.chance(0.6) { NAMESPACES[0] } else { self.one_of(&NAMESPACES) };
        policy.metadata.namespace = Some(namespace.to_owned());
        policy.spec = Some(NetworkPolicySpec { egress, ingress: None, pod_selector, policy_types });
        policy
    }

    fn rule(&mut self) -> NetworkPolicyEgressRule {
        let to = self.chance(0.95).then(|| (0..self.up_to(4)).map(|_| self.peer()).collect());
        let ports = self.chance(0.7).then(|| (0..self.up_to(4)).map(|_| self.port()).collect());
        NetworkPolicyEgressRule { ports, to }
    }

    fn peer(&mut self) -> NetworkPolicyPeer {
        let mut peer = NetworkPolicyPeer::default();
        match self.up_to(5) {
            0 => peer.pod_selector = Some(self.selector()),
            1 => peer.namespace_selector = Some(self.namespace_selector()),
            2 => {
                peer.pod_selector = Some(self.selector());
                peer.namespace_selector = Some(self.namespace_selector());
            }
            _ => peer.ip_block = Some(self.block()),
        }
        peer
    }

    fn block(&mut self) -> IPBlock {
        let ip = self.address();
        let prefix = self.one_of(if ip.is_ipv4() { &IPV4_PREFIXES } else { &IPV6_PREFIXES });
        let cidr = IpNet::new_assert(ip, prefix);
        let except = self.chance(0.5).then(|| (0..self.up_to(2)).filter_map(|_| self.part_of(&cidr)).collect());
        // Bits behind the prefix are legal and mean nothing.
        let cidr = if self.chance(0.1) { cidr } else { cidr.trunc() };
        IPBlock { cidr: cidr.to_string(), except }
    }

    /// A block strictly inside `block`.
    fn part_of(&mut self, block: &IpNet) -> Option<String> {
        let narrower = block.prefix_len() + 1..=block.max_prefix_len();
        if narrower.is_empty() {
            return None;
        }
        let ip = match block {
            IpNet::V4(v4) => {
                Ipv4Addr::from(self.0.random_range(v4.network().into()..=u32::from(v4.broadcast()))).into()
            }
            IpNet::V6(v6) => {
                Ipv6Addr::from(self.0.random_range(v6.network().into()..=u128::from(v6.broadcast()))).into()
            }
        };
        Some(IpNet::new_assert(ip, self.0.random_range(narrower)).trunc().to_string())
    }

    fn port(&mut self) -> NetworkPolicyPort {
        let protocol = self.chance(0.7).then(|| self.one_of(&PROTOCOLS).as_str().to_owned());
        let (port, end_port) = match self.up_to(9) {
            0 => (None, None),
            1 | 2 => (Some(IntOrString::String(self.one_of(&NAMED_PORTS).0.to_owned())), None),
            3..=5 => {
                let first = self.0.random_range(1..=i32::from(u16::MAX));
                (Some(IntOrString::Int(first)), Some(self.0.random_range(first..=i32::from(u16::MAX))))
            }
            6 => (Some(IntOrString::Int(self.one_of(&[1, 65535]))), None),
            _ => (Some(IntOrString::Int(self.one_of(&[53, 80, 443, 5432]))), None),
        };
        NetworkPolicyPort { end_port, port, protocol }
    }

    fn namespace_selector(&mut self) -> LabelSelector {
        if self.chance(0.5) {
            return self.selector();
        }
        let name = self.one_of(&NAMESPACES).to_owned();
        LabelSelector { match_labels: Some([(NAMESPACE_NAME.to_owned(), name)].into()), match_expressions: None }
    }

    fn selector(&mut self) -> LabelSelector {
        let match_labels = match self.up_to(7) {
            0 => Some([(self.one_of(&KEYS).to_owned(), String::new())].into()),
            1..=3 => Some(self.labels()),
            _ => None,
        };
        let match_expressions = self.chance(0.5).then(|| (0..self.up_to(2)).map(|_| self.requirement()).collect());
        LabelSelector { match_labels, match_expressions }
    }

    fn requirement(&mut self) -> LabelSelectorRequirement {
        let operator = self.one_of(&["In", "NotIn", "Exists", "DoesNotExist"]).to_owned();
        let listed = operator.ends_with("In");
        let values = listed.then(|| (0..=self.up_to(1)).map(|_| self.one_of(&VALUES).to_owned()).collect());
        LabelSelectorRequirement { key: self.one_of(&KEYS).to_owned(), operator, values }
    }

    fn labels(&mut self) -> Labels {
        (0..self.up_to(2)).map(|_| (self.one_of(&KEYS).to_owned(), self.one_of(&VALUES).to_owned())).collect()
    }

    /// An address of one of four small neighbourhoods, so that blocks hold several of them.
    fn address(&mut self) -> IpAddr {
        let low = self.0.random_range(0..=255);
        match self.up_to(3) {
            0 => Ipv4Addr::new(10, 0, self.0.random_range(0..4), low).into(),
            1 => Ipv4Addr::new(198, 51, 100, low).into(),
            2 => Ipv6Addr::new(0x2001, 0xdb8, 0, self.0.random_range(0..4), 0, 0, 0, u16::from(low)).into(),
            _ => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(low)).into(),
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.0.random_range(0..=most)
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items.choose(&mut self.0).expect("every list that is asked has items").clone()
    }
}

/// First, last and neighbouring addresses of all blocks and exceptions, and the same of all ports.
fn edges(policies: &[NetworkPolicy]) -> (Vec<IpAddr>, Vec<u16>) {
    let rules = || policies.iter().filter_map(|policy| policy.spec.as_ref()?.egress.as_ref()).flatten();
    let blocks = rules().flat_map(|rule| rule.to.iter().flatten()).filter_map(|peer| peer.ip_block.as_ref());
    let cidrs = blocks.flat_map(|block| block.except.iter().flatten().chain([&block.cidr]));
    let addresses = cidrs.filter_map(|cidr| cidr.parse::<IpNet>().ok()).flat_map(|cidr| {
        [neighbour(cidr.network(), -1), cidr.network(), cidr.addr(), cidr.broadcast(), neighbour(cidr.broadcast(), 1)]
    });
    let ports = rules().flat_map(|rule| rule.ports.iter().flatten()).flat_map(|port| {
        let first = match &port.port {
            Some(IntOrString::Int(first)) => *first,
            _ => 443,
        };
        let last = port.end_port.unwrap_or(first);
        [first - 1, first, last, last + 1]
    });
    (addresses.collect(), ports.filter_map(|port| u16::try_from(port).ok().filter(|port| *port > 0)).collect())
}

/// The address `by` further on; at the end of the family it begins again.
fn neighbour(ip: IpAddr, by: i8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_add_signed(by.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).wrapping_add_signed(by.into())).into(),
    }
}
