//! The documented semantics, one sentence each.

use serde_json::{Value, json};

use super::*;

/// Policies `p0`, `p1`, … of namespace `shop` with these specs.
fn policies(specs: Value) -> Vec<NetworkPolicy> {
    let named = |(i, spec)| json!({"metadata": {"namespace": "shop", "name": format!("p{i}")}, "spec": spec});
    let specs = specs.as_array().unwrap().iter().enumerate();
    specs.map(|policy| serde_json::from_value(named(policy)).unwrap()).collect()
}

/// One policy about egress with one rule, which has these peers and these ports.
fn rule(to: Value, ports: Value) -> Value {
    json!([{"policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]}])
}

fn allowed(policy: &str, rule: usize) -> Verdict {
    Verdict::Allowed { policy: policy.to_owned(), rule }
}

fn denied(names: &[&str]) -> Verdict {
    Verdict::Denied { selected_by: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn connect(policies: &[NetworkPolicy], connection: &str) -> Verdict {
    let source_labels = labels([("app", "web"), ("tier", "front")]);
    let namespace_labels = [labels([("team", "storage")]), labels([("team", "sales")])];
    let pod_labels = labels([("app", "db")]);
    let named_ports = NamedPorts::from([(("sql".to_owned(), Protocol::Tcp), 5432)]);
    let pod = |namespace, namespace_labels| Destination {
        ip: Some([10, 0, 0, 7].into()),
        pod: Some(DestinationPod { namespace, namespace_labels, labels: &pod_labels, named_ports: &named_ports }),
    };

    let (protocol, address) = connection.split_once(' ').unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let destination = match host {
        "pod-of-data" => pod("data", &namespace_labels[0]),
        "pod-of-shop" => pod("shop", &namespace_labels[1]),
        "nowhere" => Destination { ip: None, pod: None },
        ip => Destination::outside(ip.trim_matches(['[', ']']).parse().unwrap()),
    };
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = protocols.into_iter().find(|p| p.as_str() == protocol).unwrap();
    let source = Source { namespace: "shop", labels: &source_labels };
    evaluate(policies, &source, &destination, protocol, port.parse().unwrap())
}

#[track_caller]
fn check(specs: Value, connection: &str, expected: Verdict) {
    assert_eq!(connect(&policies(specs.clone()), connection), expected, "{connection} under {specs}");
}

#[test]
fn a_pod_that_no_egress_policy_selects_is_unrestricted() {
    check(json!([]), "TCP 192.0.2.1:443", Verdict::Unrestricted);
    check(json!([{"policyTypes": ["Ingress"]}]), "TCP 192.0.2.1:443", Verdict::Unrestricted);
    let other_pods = json!({"matchLabels": {"app": "db"}});
    check(json!([{"podSelector": other_pods, "policyTypes": ["Egress"]}]), "TCP 192.0.2.1:443", Verdict::Unrestricted);
}

#[test]
fn a_policy_of_another_namespace_or_without_a_spec_restricts_nothing() {
    let mut policies = policies(json!([{"policyTypes": ["Egress"]}, {"policyTypes": ["Egress"]}]));
    policies[0].metadata.namespace = Some("data".to_owned());
    policies[1].spec = None;
    assert_eq!(connect(&policies, "TCP 192.0.2.1:443"), Verdict::Unrestricted);
}

#[test]
fn a_policy_about_egress_without_rules_denies_everything() {
    check(json!([{"policyTypes": ["Egress"]}]), "TCP 192.0.2.1:443", denied(&["p0"]));
    check(
        json!([{"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": []}]),
        "UDP nowhere:53",
        denied(&["p0"]),
    );
}

#[test]
fn without_policy_types_egress_is_meant_iff_there_are_egress_rules() {
    for absent in [json!({}), json!({"policyTypes": []})] {
        let with = |egress: Value| {
            let mut spec = absent.clone();
            spec["egress"] = egress;
            json!([spec])
        };
        check(json!([absent]), "TCP 192.0.2.1:443", Verdict::Unrestricted);
        check(with(json!([])), "TCP 192.0.2.1:443", Verdict::Unrestricted);
        check(with(json!([{}])), "TCP 192.0.2.1:443", allowed("p0", 0));
        check(with(json!([{"ports": [{"port": 80}]}])), "TCP 192.0.2.1:443", denied(&["p0"]));
    }
}

#[test]
fn a_rule_without_peers_allows_every_destination_and_one_without_ports_every_port() {
    let everything = rule(json!([]), json!([]));
    for connection in ["TCP 192.0.2.1:443", "SCTP [2001:db8::1]:1", "UDP pod-of-data:65535", "TCP nowhere:1"] {
        check(everything.clone(), connection, allowed("p0", 0));
        check(json!([{"policyTypes": ["Egress"], "egress": [{}]}]), connection, allowed("p0", 0));
    }
}

#[test]
fn peers_and_ports_of_a_rule_must_both_match_and_are_not_mixed_between_rules() {
    let specs = json!([{"policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]},
        {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}, {"podSelector": {}}], "ports": [{"port": 80}, {"port": 81}]},
    ]}]);
    check(specs.clone(), "TCP 192.0.2.1:443", allowed("p0", 0));
    check(specs.clone(), "TCP 198.51.100.1:81", allowed("p0", 1));
    check(specs.clone(), "TCP pod-of-shop:80", allowed("p0", 1));
    check(specs.clone(), "TCP 192.0.2.1:80", denied(&["p0"]));
    check(specs, "TCP 198.51.100.1:443", denied(&["p0"]));
}

#[test]
fn policies_unite_and_the_first_by_name_is_named() {
    let mut policies = policies(json!([
        {"policyTypes": ["Egress"]},
        {"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 443}]}]},
        {"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 80}]}, {"ports": [{"port": 443}]}]},
    ]));
    policies.reverse();
    assert_eq!(connect(&policies, "TCP 192.0.2.1:443"), allowed("p1", 0));
    assert_eq!(connect(&policies, "TCP 192.0.2.1:80"), allowed("p2", 0));
    assert_eq!(connect(&policies, "TCP 192.0.2.1:22"), denied(&["p0", "p1", "p2"]));
}

#[test]
fn a_block_holds_its_addresses_less_its_exceptions() {
    let block = json!({"cidr": "192.0.2.0/24", "except": ["192.0.2.16/28", "192.0.2.7/32"]});
    let specs = rule(json!([{"ipBlock": block}]), json!([]));
    for (ip, inside) in [("192.0.2.0", true), ("192.0.2.255", true), ("192.0.2.32", true), ("192.0.3.0", false)] {
        check(specs.clone(), &format!("TCP {ip}:1"), if inside { allowed("p0", 0) } else { denied(&["p0"]) });
    }
    for excluded in ["192.0.2.16", "192.0.2.31", "192.0.2.7"] {
        check(specs.clone(), &format!("TCP {excluded}:1"), denied(&["p0"]));
    }
    check(rule(json!([{"ipBlock": {"cidr": "192.0.2.9/24"}}]), json!([])), "TCP 192.0.2.1:1", allowed("p0", 0));
}

#[test]
fn the_two_families_never_match_each_other() {
    let specs = rule(json!([{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]), json!([]));
    check(specs.clone(), "TCP [2001:db8::1]:1", allowed("p0", 0));
    check(specs.clone(), "TCP [2001:db8:1::1]:1", denied(&["p0"]));
    check(specs, "TCP 192.0.2.1:1", denied(&["p0"]));
    check(rule(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]), json!([])), "TCP [::ffff:192.0.2.1]:1", denied(&["p0"]));
    check(rule(json!([{"ipBlock": {"cidr": "::/0"}}]), json!([])), "TCP [::ffff:192.0.2.1]:1", allowed("p0", 0));
}

#[test]
fn a_block_matches_the_address_of_a_pod_too_and_nothing_without_an_address() {
    let specs = rule(json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]), json!([]));
    check(specs.clone(), "TCP pod-of-data:1", allowed("p0", 0));
    check(specs, "TCP nowhere:1", denied(&["p0"]));
}

#[test]
fn selectors_of_a_peer_choose_namespace_and_pod_together() {
    let storage = json!({"matchLabels": {"team": "storage"}});
    let (db, web) = (json!({"matchLabels": {"app": "db"}}), json!({"matchLabels": {"app": "web"}}));
    for (peer, data, shop) in [
        (json!({"podSelector": {}}), false, true),
        (json!({"podSelector": db}), false, true),
        (json!({"podSelector": web}), false, false),
        (json!({"namespaceSelector": {}}), true, true),
        (json!({"namespaceSelector": storage}), true, false),
        (json!({"namespaceSelector": storage, "podSelector": {}}), true, false),
        (json!({"namespaceSelector": storage, "podSelector": db}), true, false),
        (json!({"namespaceSelector": {}, "podSelector": db}), true, true),
        (json!({"namespaceSelector": storage, "podSelector": web}), false, false),
    ] {
        for (pod, expected) in [("data", data), ("shop", shop)] {
            let expected = if expected { allowed("p0", 0) } else { denied(&["p0"]) };
            check(rule(json!([peer]), json!([])), &format!("TCP pod-of-{pod}:1"), expected);
        }
        check(rule(json!([peer]), json!([])), "TCP 10.0.0.7:1", denied(&["p0"]));
    }
}

#[test]
fn the_requirements_of_a_selector_are_all_to_be_met() {
    let both = json!({"matchLabels": {"app": "web", "tier": "front"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]});
    let one_fails = json!({"matchLabels": {"app": "web", "tier": "back"}});
    check(json!([{"podSelector": both, "policyTypes": ["Egress"]}]), "TCP 192.0.2.1:1", denied(&["p0"]));
    check(json!([{"podSelector": one_fails, "policyTypes": ["Egress"]}]), "TCP 192.0.2.1:1", Verdict::Unrestricted);
}

#[test]
fn operators_of_a_selector_treat_an_absent_label_as_documented() {
    for (key, operator, values, selected) in [
        ("app", "In", json!(["db", "web"]), true),
        ("app", "In", json!(["db"]), false),
        ("absent", "In", json!(["web", ""]), false),
        ("app", "NotIn", json!(["db"]), true),
        ("app", "NotIn", json!(["db", "web"]), false),
        ("absent", "NotIn", json!(["web"]), true),
        ("app", "Exists", json!([]), true),
        ("absent", "Exists", json!(null), false),
        ("app", "DoesNotExist", json!([]), false),
        ("absent", "DoesNotExist", json!(null), true),
        ("app", "In", json!([]), false),
        ("app", "NotIn", json!([]), false),
        ("app", "Exists", json!(["web"]), false),
        ("absent", "DoesNotExist", json!(["web"]), false),
        ("app", "Gt", json!(["1"]), false),
    ] {
        let selector = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let expected = if selected { denied(&["p0"]) } else { Verdict::Unrestricted };
        check(json!([{"podSelector": selector, "policyTypes": ["Egress"]}]), "TCP 192.0.2.1:1", expected);
    }
    let empty_value = json!({"matchLabels": {"absent": ""}});
    check(json!([{"podSelector": empty_value, "policyTypes": ["Egress"]}]), "TCP 192.0.2.1:1", Verdict::Unrestricted);
}

#[test]
fn a_port_is_a_protocol_and_a_number_a_range_a_name_or_anything() {
    for (port, inside, outside) in [
        (json!({"port": 443}), &["TCP 192.0.2.1:443"][..], &["UDP 192.0.2.1:443", "TCP 192.0.2.1:444"][..]),
        (json!({"protocol": "UDP", "port": 53}), &["UDP 192.0.2.1:53"], &["TCP 192.0.2.1:53"]),
        (json!({"protocol": "SCTP"}), &["SCTP 192.0.2.1:1", "SCTP nowhere:65535"], &["TCP 192.0.2.1:1"]),
        (json!({}), &["TCP 192.0.2.1:1"], &["UDP 192.0.2.1:1"]),
        (
            json!({"port": 10, "endPort": 12}),
            &["TCP 192.0.2.1:10", "TCP 192.0.2.1:12"],
            &["TCP 192.0.2.1:9", "TCP 192.0.2.1:13", "UDP 192.0.2.1:11"],
        ),
        (json!({"port": 65535, "endPort": 65535}), &["TCP 192.0.2.1:65535"], &["TCP 192.0.2.1:65534"]),
        (
            json!({"port": "sql"}),
            &["TCP pod-of-data:5432"],
            &["TCP 192.0.2.1:5432", "UDP pod-of-data:5432", "TCP pod-of-data:1"],
        ),
        (json!({"port": "absent"}), &[], &["TCP pod-of-data:5432"]),
    ] {
        for (connections, expected) in [(inside, allowed("p0", 0)), (outside, denied(&["p0"]))] {
            for connection in connections {
                check(rule(json!([]), json!([port])), connection, expected.clone());
            }
        }
    }
}

#[test]
fn what_the_api_server_refuses_matches_nothing() {
    let block = json!({"cidr": "0.0.0.0/0"});
    for peer in [
        json!({}),
        json!({"ipBlock": block, "podSelector": {}}),
        json!({"ipBlock": block, "namespaceSelector": {}}),
        json!({"ipBlock": {"cidr": "10.0.0.7"}}),
        json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.1"]}}),
    ] {
        check(rule(json!([peer]), json!([])), "TCP pod-of-shop:5432", denied(&["p0"]));
    }
    for port in [
        json!({"endPort": 65535}),
        json!({"port": "sql", "endPort": 65535}),
        json!({"port": 6000, "endPort": 5000}),
        json!({"protocol": "tcp", "port": 5432}),
    ] {
        check(rule(json!([]), json!([port])), "TCP pod-of-shop:5432", denied(&["p0"]));
    }
}

#[test]
fn every_verdict_but_denied_is_allowed() {
    for (verdict, expected) in [(Verdict::Unrestricted, true), (allowed("p0", 0), true), (denied(&["p0"]), false)] {
        assert_eq!(verdict.is_allowed(), expected, "{verdict:?}");
    }
}
