//! What holds for every set of policies.

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRng;

use super::*;

// Small universes, so that policies and connections meet often.
const NAMESPACES: [&str; 2] = ["n0", "n1"];
const KEYS: [&str; 2] = ["x", "y"];
const VALUES: [&str; 2] = ["0", "1"];
const ADDRESSES: [&str; 4] = ["192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::9"];
const BLOCKS: [&str; 4] = ["192.0.2.0/24", "192.0.2.0/29", "2001:db8::/64", "2001:db8::/125"];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn some_labels() -> impl Strategy<Value = Labels> {
    btree_map(text(&KEYS), text(&VALUES), 0..=2)
}

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    let listed = (select(&["In", "NotIn"][..]), vec(text(&VALUES), 1..=2).prop_map(Some));
    let bare = (select(&["Exists", "DoesNotExist"][..]), Just(None));
    (text(&KEYS), prop_oneof![listed.boxed(), bare.boxed()])
        .prop_map(|(key, (operator, values))| LabelSelectorRequirement { key, operator: operator.to_owned(), values })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    (option::of(some_labels()), option::of(vec(requirement(), 0..=2)))
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn peer() -> impl Strategy<Value = NetworkPolicyPeer> {
    let block = (text(&BLOCKS), option::of(vec(text(&BLOCKS), 0..=1))).prop_map(|(cidr, except)| NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr, except }),
        ..Default::default()
    });
    let pods = (option::of(selector()), option::of(selector())).prop_map(|(namespace_selector, pod_selector)| {
        NetworkPolicyPeer { ip_block: None, namespace_selector, pod_selector }
    });
    prop_oneof![block, pods]
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let protocol = option::of(select(&PROTOCOLS[..]).prop_map(|protocol| protocol.as_str().to_owned()));
    let numbers = (1..4i32, option::of(1..4i32)).prop_map(|(port, end)| (Some(IntOrString::Int(port)), end));
    let name = Just((Some(IntOrString::String("name".to_owned())), None));
    (protocol, prop_oneof![Just((None, None)), numbers, name])
        .prop_map(|(protocol, (port, end_port))| NetworkPolicyPort { protocol, port, end_port })
}

fn rule() -> impl Strategy<Value = NetworkPolicyEgressRule> {
    (option::of(vec(peer(), 0..=3)), option::of(vec(port(), 0..=3)))
        .prop_map(|(to, ports)| NetworkPolicyEgressRule { to, ports })
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = option::of(vec(text(&["Ingress", "Egress", "Egress"]), 0..=2));
    (text(&NAMESPACES), option::of(selector()), types, option::of(vec(rule(), 0..=3))).prop_map(
        |(namespace, pod_selector, policy_types, egress)| {
            let mut policy = NetworkPolicy::default();
            policy.metadata.namespace = Some(namespace);
            policy.spec = Some(NetworkPolicySpec { pod_selector, policy_types, egress, ingress: None });
            policy
        },
    )
}

/// Policies with names of their own.
fn policies() -> impl Strategy<Value = Vec<NetworkPolicy>> {
    vec(policy(), 0..5).prop_map(|mut policies| {
        for (i, policy) in policies.iter_mut().enumerate() {
            policy.metadata.name = Some(format!("p{i}"));
        }
        policies
    })
}

/// A connection; all its parts are owned here.
#[derive(Debug)]
struct Scene {
    source_labels: Labels,
    ip: Option<IpAddr>,
    pod: Option<(&'static str, Labels, Labels, NamedPorts)>,
    protocol: Protocol,
    port: u16,
}

impl Scene {
    fn verdict<'a>(&self, policies: impl IntoIterator<Item = &'a NetworkPolicy>) -> Verdict {
        let pod = self.pod.as_ref().map(|(namespace, namespace_labels, labels, named_ports)| DestinationPod {
            namespace,
            namespace_labels,
            labels,
            named_ports,
        });
        let source = Source { namespace: NAMESPACES[0], labels: &self.source_labels };
        evaluate(policies, &source, &Destination { ip: self.ip, pod }, self.protocol, self.port)
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    let named = (select(&PROTOCOLS[..]), 1..5u16).prop_map(|(protocol, port)| (("name".to_owned(), protocol), port));
    let named_ports = vec(named, 0..=2).prop_map(NamedPorts::from_iter);
    let pod = option::of((select(&NAMESPACES[..]), some_labels(), some_labels(), named_ports));
    let ip = option::weighted(0.9, select(&ADDRESSES[..]).prop_map(|ip| ip.parse().unwrap()));
    (some_labels(), ip, pod, select(&PROTOCOLS[..]), 1..5u16)
        .prop_map(|(source_labels, ip, pod, protocol, port)| Scene { source_labels, ip, pod, protocol, port })
}

fn shuffle<T>(items: &mut [T], rng: &mut TestRng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.random_range(0..=i));
    }
}

/// The same policies with every list in another order.
fn reordered(policies: &[NetworkPolicy], rng: &mut TestRng) -> Vec<NetworkPolicy> {
    let mut policies = policies.to_vec();
    shuffle(&mut policies, rng);
    for spec in policies.iter_mut().filter_map(|policy| policy.spec.as_mut()) {
        shuffle(spec.policy_types.as_deref_mut().unwrap_or_default(), rng);
        shuffle(spec.egress.as_deref_mut().unwrap_or_default(), rng);
        for rule in spec.egress.iter_mut().flatten() {
            shuffle(rule.to.as_deref_mut().unwrap_or_default(), rng);
            shuffle(rule.ports.as_deref_mut().unwrap_or_default(), rng);
        }
    }
    policies
}

/// A verdict less the index of the rule, which the order of the rules changes.
fn without_rule(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Allowed { policy, .. } => Verdict::Allowed { policy, rule: 0 },
        other => other,
    }
}

proptest! {
    #[test]
    fn order_is_irrelevant(
        (before, after) in policies().prop_perturb(|policies, mut rng| {
            let after = reordered(&policies, &mut rng);
            (policies, after)
        }),
        scene in scene(),
    ) {
        prop_assert_eq!(without_rule(scene.verdict(&before)), without_rule(scene.verdict(&after)));
    }

    #[test]
    fn one_more_policy_never_takes_away_what_another_allows(before in policies(), more in policy(), scene in scene()) {
        let after = scene.verdict(before.iter().chain([&more]));
        match scene.verdict(&before) {
            Verdict::Allowed { .. } => {
                let still_allowed = matches!(after, Verdict::Allowed { .. });
                prop_assert!(still_allowed);
            }
            Verdict::Denied { .. } => prop_assert_ne!(after, Verdict::Unrestricted),
            Verdict::Unrestricted => prop_assert_eq!(after, scene.verdict([&more])),
        }
    }

    #[test]
    fn the_union_allows_what_one_of_the_policies_allows(policies in policies(), scene in scene()) {
        let alone: Vec<_> = policies.iter().map(|policy| scene.verdict([policy])).collect();
        let allows = alone.iter().any(|verdict| matches!(verdict, Verdict::Allowed { .. }));
        let restricts = alone.iter().any(|verdict| *verdict != Verdict::Unrestricted);
        prop_assert_eq!(scene.verdict(&policies).is_allowed(), allows || !restricts);
    }

    #[test]
    fn the_rule_that_is_named_allows_the_connection_on_its_own(mut policies in policies(), scene in scene()) {
        if let Verdict::Allowed { policy, rule } = scene.verdict(&policies) {
            policies.retain(|candidate| candidate.metadata.name.as_ref() == Some(&policy));
            for rules in policies.iter_mut().filter_map(|policy| policy.spec.as_mut()?.egress.as_mut()) {
                *rules = vec![rules.swap_remove(rule)];
            }
            prop_assert_eq!(scene.verdict(&policies), Verdict::Allowed { policy, rule: 0 });
        }
    }
}
