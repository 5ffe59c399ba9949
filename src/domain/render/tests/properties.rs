//! Render, then evaluate: what is written means what the spec, the book and the DNS rules say, no more and no less.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::{Destination, EgressPolicySpec};
use crate::evaluate::{self, DestinationPod, Labels, NamedPorts, Source, evaluate};
use crate::fingerprint::Fingerprint;
use crate::network_policy;

// Small universes, so that rules and connections meet often.
const HOSTS: [&str; 4] = ["a.example", "b.example", "c.example", "192.0.2.9"];
const ADDRESSES: [&str; 6] = ["192.0.2.1", "192.0.2.2", "192.0.2.9", "198.51.100.7", "2001:db8::1", "2001:db8::9"];
const BLOCKS: [&str; 7] =
    ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/29", "192.0.2.1/32", "2001:db8::/32", "2001:db8::/125", "2001:db8::9/128"];
const HOLES: [&str; 4] = ["192.0.2.0/30", "192.0.2.2/32", "2001:db8::/126", "2001:db8::1/128"];
const PORTS: [u16; 4] = [53, 80, 443, 8_080];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const NAMESPACES: [&str; 3] = ["n", "n1", "kube-system"];

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn selectors() -> impl Strategy<Value = Value> {
    select(vec![json!({}), json!({"matchLabels": {"app": "db"}}), json!({"matchLabels": {"app": "web"}})])
}

fn ports() -> impl Strategy<Value = Value> {
    let one =
        (select(&PORTS[..]), select(&["TCP", "UDP", "SCTP"][..]), any::<bool>()).prop_map(|(port, protocol, range)| {
            if range {
                json!({"port": port, "endPort": port + 40, "protocol": protocol})
            } else {
                json!({"port": port, "protocol": protocol})
            }
        });
    prop_oneof![2 => Just(json!(null)), 3 => vec(one, 1..4).prop_map(Value::Array)]
}

fn destination() -> impl Strategy<Value = Value> {
    let what = prop_oneof![
        3 => select(&HOSTS[..]).prop_map(|name| json!({"hostname": name})),
        1 => select(&ADDRESSES[..]).prop_map(|ip| json!({"ip": ip})),
        2 => (select(&BLOCKS[..]), vec(select(&HOLES[..]), 0..4)).prop_map(|(cidr, holes)| {
            let wide: IpNet = cidr.parse().unwrap();
            let inside = |hole: &&str| wide.contains(&hole.parse::<IpNet>().unwrap()) && *hole != cidr;
            json!({"cidr": cidr, "except": holes.into_iter().filter(inside).collect::<Vec<_>>()})
        }),
        1 => (select(&NAMESPACES[..]), prop::option::of(selectors()))
            .prop_map(|(name, selector)| json!({"namespace": {"name": name, "podSelector": selector}})),
    ];
    (what, ports()).prop_map(|(mut destination, ports)| {
        destination["ports"] = ports;
        destination
    })
}

fn destinations() -> impl Strategy<Value = Vec<Value>> {
    vec(destination(), 0..6)
}

/// Answers, also for hosts that no destination names.
fn answers() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    vec((select(&HOSTS[..3]), select(&ADDRESSES[..])), 0..6)
}

fn dns_rule_of() -> impl Strategy<Value = DnsRule> {
    let namespaces = vec(select(&NAMESPACES[1..]).prop_map(str::to_owned), 0..2);
    let selectors = vec(selectors().prop_map(|value| serde_json::from_value(value).unwrap()), 0..2);
    let nets = vec(select(&BLOCKS[2..]).prop_map(|net| net.parse().unwrap()), 0..2);
    let ports = vec(select(&PORTS[..2]), 1..3).prop_map(|ports| dns_ports(ports).unwrap());
    (namespaces, selectors, nets, ports).prop_map(|(namespaces, selectors, blocks, ports)| DnsRule {
        namespaces,
        selectors,
        blocks,
        ports,
    })
}

fn a_cluster() -> impl Strategy<Value = Cluster> {
    (vec(dns_rule_of(), 0..3), select(&[Families::BOTH, Families::BOTH, V4, V6][..]))
        .prop_map(|(dns, families)| cluster(dns, families))
}

fn a_spec(destinations: impl Strategy<Value = Vec<Value>>) -> impl Strategy<Value = Value> {
    (destinations, vec(select(&NAMESPACES[..]), 0..2), selectors()).prop_map(|(destinations, namespaces, selector)| {
        json!({"destinations": destinations, "namespaces": namespaces, "podSelector": selector})
    })
}

/// A connection out of a pod of the namespace `n`.
#[derive(Debug)]
struct Connection {
    source: Labels,
    ip: Option<IpAddr>,
    pod: Option<(&'static str, Labels)>,
    protocol: Protocol,
    port: u16,
}

fn connection() -> impl Strategy<Value = Connection> {
    let some_labels = || select(vec![labels(&[]), labels(&[("app", "db")]), labels(&[("app", "web"), ("x", "y")])]);
    let ip = prop::option::weighted(0.8, select(&ADDRESSES[..]).prop_map(|ip| ip.parse().unwrap()));
    let pod = prop::option::of((select(&NAMESPACES[..]), some_labels()));
    let port = prop_oneof![4 => select(&PORTS[..]), 1 => select(vec![1_u16, 93, 94, 483, 484])];
    let protocol = prop_oneof![2 => Just(Protocol::Tcp), 1 => select(&PROTOCOLS[..])];
    (some_labels(), ip, pod, protocol, port).prop_map(|(source, ip, pod, protocol, port)| Connection {
        source,
        ip,
        pod,
        protocol,
        port,
    })
}

/// What a person would say who has the spec, the answers and the DNS rules before them. Nothing here uses
/// `ValidatedPolicy` or a NetworkPolicy.
struct Reading<'a> {
    spec: EgressPolicySpec,
    answers: &'a [(&'static str, &'static str)],
    cluster: &'a Cluster,
}

impl Reading<'_> {
    fn allows(&self, to: &Connection) -> bool {
        selects(&self.spec.pod_selector, &to.source)
            && (self.cluster.dns.iter().any(|rule| dns_allows(rule, to))
                || self.spec.destinations.iter().any(|destination| self.opens(destination, to))
                || to.pod.as_ref().is_some_and(|(name, _)| self.spec.namespaces.iter().any(|open| open == name)))
    }

    fn opens(&self, destination: &Destination, to: &Connection) -> bool {
        let ports = destination.ports.as_deref().unwrap_or_default();
        let port_is_open = ports.iter().any(|port| {
            let protocol = format!("{:?}", port.protocol.unwrap()).to_uppercase();
            let last = port.end_port.unwrap_or(port.port);
            protocol == to.protocol.as_str() && (port.port..=last).contains(&i32::from(to.port))
        });
        let is_default = ports.is_empty() && to.protocol == Protocol::Tcp && to.port == 443;
        (port_is_open || is_default) && (self.has_address(destination, to) || has_pod(destination, to))
    }

    fn has_address(&self, destination: &Destination, to: &Connection) -> bool {
        let Some(ip) =
            to.ip.filter(|ip| if ip.is_ipv4() { self.cluster.families.v4 } else { self.cluster.families.v6 })
        else {
            return false;
        };
        let is_it = |text: &str| text.parse() == Ok(ip);
        let has_it = |net: &String| net.parse::<IpNet>().unwrap().contains(&ip);
        let Destination { hostname, ip: explicit, cidr, except, .. } = destination;
        hostname.as_deref().is_some_and(|name| {
            is_it(name) || self.answers.iter().any(|(host, address)| *host == name && is_it(address))
        }) || explicit.as_deref().is_some_and(is_it)
            || cidr.as_ref().is_some_and(|net| has_it(net) && !except.iter().any(has_it))
    }
}

fn has_pod(destination: &Destination, to: &Connection) -> bool {
    let (Some(open), Some((name, pod))) = (&destination.namespace, &to.pod) else { return false };
    open.name == *name && open.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod))
}

fn dns_allows(rule: &DnsRule, to: &Connection) -> bool {
    let by_pod = to.pod.as_ref().is_some_and(|(name, pod)| {
        rule.namespaces.iter().any(|open| open == name) || rule.selectors.iter().any(|selector| selects(selector, pod))
    });
    let by_address = to.ip.is_some_and(|ip| rule.blocks.iter().any(|net| net.contains(&ip)));
    to.protocol != Protocol::Sctp && rule.ports.contains(to.protocol, to.port) && (by_pod || by_address)
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
}

fn written(spec: &Value, answers: &[(&str, &str)], cluster: &Cluster) -> NetworkPolicySpec {
    render(&policy(spec), &book(answers), cluster)
}

fn evaluator_allows(spec: NetworkPolicySpec, to: &Connection) -> bool {
    let object = network_policy::owned(&policy(&json!({})), spec, &book(&[]), None);
    let policies: [NetworkPolicy; 2] = [object, network_policy::default_deny("n")];
    let pod = to.pod.as_ref();
    let namespace_labels = pod.map(|(name, _)| labels(&[(NAMESPACE_NAME_LABEL, name)])).unwrap_or_default();
    let named_ports = NamedPorts::new();
    let pod = pod.map(|(namespace, labels)| DestinationPod {
        namespace,
        namespace_labels: &namespace_labels,
        labels,
        named_ports: &named_ports,
    });
    let source = Source { namespace: "n", labels: &to.source };
    evaluate(&policies, &source, &evaluate::Destination { ip: to.ip, pod }, to.protocol, to.port).is_allowed()
}

/// A destination, and the same with its ports and its holes in another order.
fn shuffled_inside() -> impl Strategy<Value = (Value, Value)> {
    let inside = destination().prop_flat_map(|before| {
        let list = |name: &str| Just(before[name].as_array().cloned().unwrap_or_default()).prop_shuffle();
        let (ports, holes) = (list("ports"), list("except"));
        (Just(before), ports, holes)
    });
    inside.prop_map(|(before, ports, holes)| {
        let mut after = before.clone();
        for (name, list) in [("ports", ports), ("except", holes)] {
            if !list.is_empty() {
                after[name] = Value::Array(list);
            }
        }
        (before, after)
    })
}

fn shuffled<T: Clone + std::fmt::Debug>(
    items: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    items.prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, ..ProptestConfig::default() })]

    /// I2 in both directions.
    #[test]
    fn what_is_written_means_what_the_spec_the_answers_and_the_dns_rules_say(
        spec in a_spec(destinations()),
        answers in answers(),
        cluster in a_cluster(),
        connections in vec(connection(), 8),
    ) {
        let rendered = written(&spec, &answers, &cluster);
        let reading = Reading { spec: serde_json::from_value(spec).unwrap(), answers: &answers, cluster: &cluster };
        for to in connections {
            prop_assert_eq!(evaluator_allows(rendered.clone(), &to), reading.allows(&to), "{:?} by {:?}", to, rendered);
        }
    }

    /// I1.
    #[test]
    fn there_is_never_an_empty_list_and_never_a_rule_for_everything(
        spec in a_spec(destinations()), answers in answers(), cluster in a_cluster(),
    ) {
        let rendered = written(&spec, &answers, &cluster);
        prop_assert_eq!(rendered.policy_types, Some(vec!["Egress".to_owned()]));
        prop_assert_eq!((rendered.ingress, rendered.pod_selector.is_some()), (None, true));
        prop_assert!(rendered.egress.as_ref().is_none_or(|rules| !rules.is_empty()));
        for rule in rendered.egress.iter().flatten() {
            let to = rule.to.as_deref().unwrap_or_default();
            prop_assert!(!to.is_empty());
            let is_shorthand = |peer: &NetworkPolicyPeer| peer.namespace_selector.is_some() && peer.pod_selector.is_none();
            match rule.ports.as_deref() {
                Some(ports) => prop_assert!(!ports.is_empty()),
                None => prop_assert!(to.iter().all(is_shorthand)),
            }
            for peer in to {
                prop_assert!(peer.ip_block.is_some() != peer.namespace_selector.is_some());
                let holes = peer.ip_block.as_ref().and_then(|block| block.except.as_ref());
                prop_assert!(holes.is_none_or(|holes| !holes.is_empty()));
            }
        }
    }

    #[test]
    fn no_rule_has_a_block_that_a_wider_one_of_it_covers(
        spec in a_spec(destinations()), answers in answers(),
    ) {
        let rendered = written(&spec, &answers, &cluster(vec![], Families::BOTH));
        let mut port_sets = Vec::new();
        for rule in rendered.egress.iter().flatten().filter(|rule| rule.to.iter().flatten().any(|p| p.ip_block.is_some())) {
            prop_assert!(!port_sets.contains(&&rule.ports), "one rule per distinct port set");
            port_sets.push(&rule.ports);
            let nets: Vec<(IpNet, bool)> = rule.to.iter().flatten().filter_map(|peer| peer.ip_block.as_ref())
                .map(|block| (block.cidr.parse().unwrap(), block.except.is_none())).collect();
            for (at, (inner, _)) in nets.iter().enumerate() {
                let covers = |(other, (outer, whole)): (usize, &(IpNet, bool))| other != at && *whole && outer.contains(inner);
                prop_assert!(!nets.iter().enumerate().any(covers), "{:?}", rule);
            }
        }
    }

    #[test]
    fn no_order_in_a_spec_or_of_its_answers_changes_anything(
        (destinations, destinations_shuffled) in shuffled(vec(shuffled_inside(), 0..6)),
        (namespaces, namespaces_shuffled) in shuffled(vec(select(&NAMESPACES[..]), 0..5)),
        (answers, answers_shuffled) in shuffled(answers()),
        cluster in a_cluster(),
    ) {
        let before: Vec<Value> = destinations.into_iter().map(|(before, _)| before).collect();
        let after: Vec<Value> = destinations_shuffled.into_iter().map(|(_, after)| after).collect();
        let before = written(&json!({"destinations": before, "namespaces": namespaces}), &answers, &cluster);
        let after = written(&json!({"destinations": after, "namespaces": namespaces_shuffled}), &answers_shuffled, &cluster);
        prop_assert_eq!(Fingerprint::of(&before), Fingerprint::of(&after));
        prop_assert_eq!(before, after);
    }
}
