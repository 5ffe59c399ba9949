//! The NetworkPolicy of a policy, a book and a cluster.

mod properties;

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::book::Caps;
use crate::cluster::dns_ports;
use crate::fqdn::Fqdn;
use crate::guard::GuardRail;
use crate::ports::Protocol;
use crate::settings::Settings;
use crate::time::UnixTime;

const V4: Families = Families { v4: true, v6: false };
const V6: Families = Families { v4: false, v6: true };

fn policy(spec: &Value) -> ValidatedPolicy {
    let value = json!({
        "apiVersion": "platform.example.com/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "p", "namespace": "n"}, "spec": spec,
    });
    ValidatedPolicy::parse(&serde_json::from_value(value).unwrap(), &Settings::default())
}

fn host(name: &str) -> Fqdn {
    Fqdn::parse(name).unwrap()
}

fn book(entries: &[(&str, &str)]) -> AddressBook {
    let mut book = AddressBook::default();
    for (name, address) in entries {
        let caps = Caps { per_host: usize::MAX, per_policy: usize::MAX };
        book.learn(&host(name), &[address.parse().unwrap()], UnixTime(60), caps);
    }
    book
}

fn cluster(dns: Vec<DnsRule>, families: Families) -> Cluster {
    Cluster { dns, guard: GuardRail::default(), families, domain: host("cluster.local") }
}

/// Rules without the DNS rule, as JSON.
fn rules(destinations: Value, entries: &[(&str, &str)], families: Families) -> Value {
    let spec = render(&policy(&json!({"destinations": destinations})), &book(entries), &cluster(vec![], families));
    serde_json::to_value(spec.egress).unwrap()
}

#[track_caller]
fn check(destinations: Value, entries: &[(&str, &str)], expected: Value) {
    assert_eq!(rules(destinations, entries, Families::BOTH), expected);
}

fn blocks(cidrs: &[&str]) -> Value {
    cidrs.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect()
}

fn tcp(port: u16) -> Value {
    json!([{"port": port, "protocol": "TCP"}])
}

fn namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

#[test]
fn the_python_operators_resource_gives_this_network_policy() {
    let policy = policy(&json!({
        "refreshIntervalSeconds": 60,
        "destinations": [{"hostname": "api.github.com"}, {"hostname": "us1.datadoghq.com"}, {"ip": "8.8.8.8"}],
        "namespaces": ["backup-tools", "shared-services"],
    }));
    let book = book(&[
        ("us1.datadoghq.com", "3.233.146.1"),
        ("us1.datadoghq.com", "2600:1f18:24e6:b900::1"),
        ("api.github.com", "140.82.121.6"),
        ("api.github.com", "140.82.121.5"),
    ]);
    let spec = render(&policy, &book, &cluster(vec![Cluster::seed_dns_rule()], Families::BOTH));
    assert_eq!(
        serde_json::to_value(spec).unwrap(),
        json!({
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
                    "ports": [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}],
                },
                {
                    "to": [
                        {"ipBlock": {"cidr": "3.233.146.1/32"}},
                        {"ipBlock": {"cidr": "8.8.8.8/32"}},
                        {"ipBlock": {"cidr": "140.82.121.5/32"}},
                        {"ipBlock": {"cidr": "140.82.121.6/32"}},
                        {"ipBlock": {"cidr": "2600:1f18:24e6:b900::1/128"}},
                    ],
                    "ports": [{"protocol": "TCP", "port": 443}],
                },
                {"to": [
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "backup-tools"}}},
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shared-services"}}},
                ]},
            ],
        }),
    );
}

#[test]
fn each_distinct_port_set_is_one_rule_and_opens_its_own_addresses_only() {
    check(
        json!([
            {"hostname": "a.example"},
            {"hostname": "b.example", "ports": [{"port": 22}, {"port": 443}]},
            {"hostname": "c.example", "ports": [{"port": 443}, {"port": 22}]},
            {"ip": "192.0.2.9", "ports": [{"port": 443, "protocol": "TCP"}]},
        ]),
        &[
            ("a.example", "192.0.2.1"),
            ("b.example", "192.0.2.2"),
            ("c.example", "192.0.2.3"),
            ("d.example", "192.0.2.4"),
        ],
        json!([
            {
                "to": blocks(&["192.0.2.2/32", "192.0.2.3/32"]),
                "ports": [{"port": 22, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}],
            },
            {"to": blocks(&["192.0.2.1/32", "192.0.2.9/32"]), "ports": tcp(443)},
        ]),
    );
}

#[test]
fn a_host_with_two_port_sets_has_its_addresses_in_both() {
    check(
        json!([{"hostname": "a.example"}, {"hostname": "a.example", "ports": [{"port": 80}]}]),
        &[("a.example", "192.0.2.1")],
        json!([{"to": blocks(&["192.0.2.1/32"]), "ports": tcp(80)}, {"to": blocks(&["192.0.2.1/32"]), "ports": tcp(443)}]),
    );
}

#[test]
fn ranges_and_protocols_are_written_as_the_api_has_them() {
    check(
        json!([{"ip": "192.0.2.1", "ports": [{"port": 8000, "endPort": 8010, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}]}]),
        &[],
        json!([{
            "to": blocks(&["192.0.2.1/32"]),
            "ports": [{"port": 8000, "endPort": 8010, "protocol": "UDP"}, {"port": 9, "protocol": "SCTP"}],
        }]),
    );
}

#[test]
fn a_block_inside_a_wider_one_of_the_same_port_set_is_dropped() {
    check(
        json!([
            {"cidr": "192.0.2.0/24"}, {"cidr": "192.0.2.0/25"}, {"ip": "192.0.2.7"}, {"ip": "192.0.3.7"},
            {"cidr": "192.0.2.128/25", "except": ["192.0.2.200/32"]}, {"ip": "192.0.2.7", "ports": [{"port": 80}]},
        ]),
        &[("a.example", "192.0.2.8")],
        json!([
            {"to": blocks(&["192.0.2.7/32"]), "ports": tcp(80)},
            {"to": blocks(&["192.0.2.0/24", "192.0.3.7/32"]), "ports": tcp(443)},
        ]),
    );
}

#[test]
fn a_wider_block_with_holes_covers_nothing() {
    check(
        json!([{"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}, {"ip": "192.0.2.7"}, {"ip": "192.0.2.77"}]),
        &[],
        json!([{
            "to": [
                {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}},
                {"ipBlock": {"cidr": "192.0.2.7/32"}},
                {"ipBlock": {"cidr": "192.0.2.77/32"}},
            ],
            "ports": tcp(443),
        }]),
    );
}

#[test]
fn the_same_block_with_and_without_holes_is_the_whole_block() {
    check(
        json!([{"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}, {"cidr": "192.0.2.0/24"}]),
        &[],
        json!([{"to": blocks(&["192.0.2.0/24"]), "ports": tcp(443)}]),
    );
}

#[test]
fn nothing_open_is_no_egress_field_and_never_an_empty_list() {
    check(json!([]), &[], json!(null));
    check(json!([{"hostname": "a.example"}]), &[("b.example", "192.0.2.1")], json!(null));
    check(json!([{"hostname": "a.example", "ports": [{"port": 0}]}]), &[("a.example", "192.0.2.1")], json!(null));
    let text = serde_json::to_string(&render(&policy(&json!({})), &book(&[]), &cluster(vec![], V4))).unwrap();
    assert_eq!(text, r#"{"podSelector":{},"policyTypes":["Egress"]}"#);
}

#[test]
fn a_family_that_is_off_is_not_written() {
    let both = json!([
        {"hostname": "a.example"}, {"ip": "2001:db8::7"}, {"ip": "192.0.2.7"},
        {"cidr": "2001:db8:1::/48", "ports": [{"port": 80}]},
    ]);
    let entries = [("a.example", "192.0.2.1"), ("a.example", "2001:db8::1")];
    let v4 = json!([{"to": blocks(&["192.0.2.1/32", "192.0.2.7/32"]), "ports": tcp(443)}]);
    assert_eq!(rules(both.clone(), &entries, V4), v4);
    let v6 = json!([
        {"to": blocks(&["2001:db8:1::/48"]), "ports": tcp(80)},
        {"to": blocks(&["2001:db8::1/128", "2001:db8::7/128"]), "ports": tcp(443)},
    ]);
    assert_eq!(rules(both, &entries, V6), v6);
}

#[test]
fn namespaces_have_all_ports_by_the_shorthand_and_their_own_otherwise() {
    let policy = policy(&json!({
        "namespaces": ["n2"],
        "destinations": [
            {"namespace": {"name": "n1"}},
            {"namespace": {"name": "n2", "podSelector": {"matchLabels": {"app": "db"}}}, "ports": [{"port": 5432}]},
            {"namespace": {"name": "n3"}, "ports": [{"port": 443}]},
            {"ip": "192.0.2.1"},
        ],
    }));
    let mut with_pods = namespace("n2");
    with_pods["podSelector"] = json!({"matchLabels": {"app": "db"}});
    let spec = render(&policy, &book(&[]), &cluster(vec![], Families::BOTH));
    assert_eq!(
        serde_json::to_value(spec.egress).unwrap(),
        json!([
            {"to": blocks(&["192.0.2.1/32"]), "ports": tcp(443)},
            {"to": [namespace("n2")]},
            {"to": [namespace("n1"), namespace("n3")], "ports": tcp(443)},
            {"to": [with_pods], "ports": tcp(5432)},
        ]),
    );
}

#[test]
fn dns_rules_come_first_in_their_order_and_an_empty_one_is_left_out() {
    let ports = |port| dns_ports([port]).unwrap();
    let labels = LabelSelector {
        match_labels: Some(BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())])),
        match_expressions: None,
    };
    let nobody = DnsRule { namespaces: vec![], selectors: vec![], blocks: vec![], ports: ports(53) };
    let servers = DnsRule {
        namespaces: vec!["kube-system".to_owned(), "openshift-dns".to_owned()],
        selectors: vec![labels],
        ports: dns_ports([5353, 53]).unwrap(),
        ..nobody.clone()
    };
    let addresses = ["10.96.0.10/32", "169.254.20.10/32"].map(|net| net.parse().unwrap());
    let addresses = DnsRule { blocks: addresses.to_vec(), ..nobody.clone() };
    let spec = render(&policy(&json!({})), &book(&[]), &cluster(vec![servers, nobody, addresses], Families::BOTH));
    let pair = |port: u16| [json!({"port": port, "protocol": "TCP"}), json!({"port": port, "protocol": "UDP"})];
    let [tcp53, udp53] = pair(53);
    let [tcp5353, udp5353] = pair(5_353);
    let selected = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
    assert_eq!(
        serde_json::to_value(spec.egress).unwrap(),
        json!([
            {"to": [namespace("kube-system"), namespace("openshift-dns"), selected], "ports": [tcp53, tcp5353, udp53, udp5353]},
            {"to": blocks(&["10.96.0.10/32", "169.254.20.10/32"]), "ports": [tcp53, udp53]},
        ]),
    );
}

#[test]
fn the_pod_selector_is_the_tenants() {
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]});
    let spec = render(&policy(&json!({"podSelector": selector})), &book(&[]), &cluster(vec![], V4));
    assert_eq!(serde_json::to_value(spec.pod_selector).unwrap(), selector);
}
