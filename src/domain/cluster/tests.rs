//! From API objects to the cluster that the machines see.

use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::facts::{ClusterFacts, ClusterFlags, Fact, cluster, dns_servers};
use super::*;
use crate::guard::Verdict;

fn fact<K: DeserializeOwned>(read: fn(&K) -> Option<Fact>, object: Value) -> Option<Fact> {
    read(&serde_json::from_value(object).unwrap())
}

fn facts(all: impl IntoIterator<Item = Option<Fact>>) -> ClusterFacts {
    let mut facts = ClusterFacts::default();
    all.into_iter().flatten().for_each(|fact| facts.add(fact));
    facts
}

fn service_cidr(cidrs: &[&str]) -> Option<Fact> {
    fact(objects::service_cidr, json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}}))
}

fn node(pod_cidrs: &[&str], addresses: &[(&str, &str)]) -> Option<Fact> {
    let addresses: Vec<Value> = addresses.iter().map(|(kind, ip)| json!({"type": kind, "address": ip})).collect();
    fact(
        objects::node,
        json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": pod_cidrs}, "status": {"addresses": addresses}}),
    )
}

fn service(namespace: &str, name: &str, label: &str, ips: &[&str], ports: Value) -> Option<Fact> {
    fact(
        objects::dns_service,
        json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"k8s-app": label}},
            "spec": {"clusterIPs": ips, "ports": ports},
        }),
    )
}

fn kube_dns() -> Option<Fact> {
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "metrics", "port": 9153},
    ]);
    service("kube-system", "kube-dns", "kube-dns", &["10.96.0.10"], ports)
}

/// A slice of kube-dns whose endpoints are (address, Pod uid, ready).
fn slice(service: &str, target: u16, endpoints: &[(&str, &str, Option<bool>)]) -> Option<Fact> {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, pod, ready)| {
            json!({
                "addresses": [address], "conditions": {"ready": ready},
                "targetRef": if pod.is_empty() { Value::Null } else { json!({"kind": "Pod", "uid": pod}) },
            })
        })
        .collect();
    fact(
        objects::slice,
        json!({
            "metadata": {
                "namespace": "kube-system", "name": "s", "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [
                {"name": "dns", "port": target, "protocol": "UDP"}, {"name": "dns-tcp", "port": target},
                {"name": "metrics", "port": 9153},
            ],
        }),
    )
}

fn flags(dns_egress: &str) -> ClusterFlags {
    ClusterFlags {
        dns_egress: dns_egress.parse().unwrap(),
        ip_families: "auto".parse().unwrap(),
        deny_answer_cidrs: vec!["198.51.100.0/24".parse().unwrap()],
        cluster_domain: Fqdn::parse("cluster.local").unwrap(),
    }
}

/// One line per DNS rule: peers, then ports (UDP and TCP alike).
#[track_caller]
fn check_dns(facts: &ClusterFacts, dns_egress: &str, expected: &[&str]) {
    let rules = cluster(facts, &flags(dns_egress)).dns.into_iter().map(|rule| {
        let ports: BTreeSet<u16> = rule.ports.ranges().iter().map(|range| range.port).collect();
        assert_eq!(Some(&rule.ports), dns_ports(ports.clone()).as_ref(), "UDP and TCP");
        let peers = rule.namespaces.iter().cloned().chain(rule.blocks.iter().map(ToString::to_string));
        let labels = rule.selectors.iter().flat_map(|selector| selector.match_labels.clone().unwrap_or_default());
        let peers = peers.chain(labels.map(|(key, value)| format!("{key}={value}")));
        format!("{} on {ports:?}", peers.collect::<Vec<_>>().join(" "))
    });
    assert_eq!(rules.collect::<Vec<_>>(), expected, "{dns_egress}");
}

#[track_caller]
fn check_servers(facts: &ClusterFacts, expected: &[&str]) {
    let servers: Vec<String> = dns_servers(facts).iter().map(ToString::to_string).collect();
    assert_eq!(servers, expected);
}

#[test]
fn auto_without_facts_is_the_python_operators_rule() {
    check_dns(&ClusterFacts::default(), "auto", &["kube-system on {53}"]);
    check_dns(&ClusterFacts::default(), "seed", &["kube-system on {53}"]);
    let seed = cluster(&ClusterFacts::default(), &flags("seed"));
    assert_eq!(seed.dns, [Cluster::seed_dns_rule()]);
}

#[test]
fn auto_opens_the_cluster_ip_beside_the_namespace() {
    let facts = facts([kube_dns()]);
    check_dns(&facts, "auto", &["kube-system on {53}", "10.96.0.10/32 on {53}"]);
    check_dns(&facts, "seed", &["kube-system on {53}"]);
}

#[test]
fn auto_opens_target_ports_of_dns_only_and_only_towards_the_dns_namespaces() {
    let facts = facts([kube_dns(), slice("kube-dns", 5353, &[]), slice("other", 8053, &[])]);
    check_dns(&facts, "auto", &["kube-system on {53, 5353}", "10.96.0.10/32 on {53}"]);
}

#[test]
fn target_ports_stay_while_no_endpoint_is_ready() {
    let facts = facts([kube_dns(), slice("kube-dns", 5353, &[("192.0.2.1", "a", Some(false))])]);
    check_dns(&facts, "auto", &["kube-system on {53, 5353}", "10.96.0.10/32 on {53}"]);
    check_servers(&facts, &[]);
}

#[test]
fn target_ports_that_the_service_gives_by_number_stay_without_any_slice() {
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353}, {"name": "dns-tcp", "port": 53, "targetPort": "dns"},
        {"name": "metrics", "port": 9153, "targetPort": 9153},
    ]);
    let facts = facts([service("kube-system", "kube-dns", "kube-dns", &["10.96.0.10"], ports)]);
    check_dns(&facts, "auto", &["kube-system on {53, 5353}", "10.96.0.10/32 on {53}"]);
}

#[test]
fn target_ports_are_found_whatever_the_ports_are_called() {
    let ports = json!([{"name": "udp-53", "port": 53, "protocol": "UDP"}, {"name": "tcp-53", "port": 53}]);
    let object = json!({
        "metadata": {
            "namespace": "kube-system", "name": "s", "labels": {"kubernetes.io/service-name": "rke2-coredns"},
        },
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "udp-53", "port": 1053, "protocol": "UDP"}, {"name": "http", "port": 80}],
    });
    let of_helm = service("kube-system", "rke2-coredns", "kube-dns", &["10.43.0.10"], ports);
    let facts = facts([of_helm, fact(objects::slice, object)]);
    check_dns(&facts, "auto", &["kube-system on {53, 1053}", "10.43.0.10/32 on {53}"]);
    check_servers(&facts, &["192.0.2.1:1053"]);
}

#[test]
fn openshift_adds_its_namespace_and_service() {
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    let dns_default = service("openshift-dns", "dns-default", "", &["172.30.0.10"], ports);
    let facts = facts([Some(Fact::OpenshiftDns), dns_default]);
    check_dns(&facts, "auto", &["kube-system openshift-dns on {53}", "172.30.0.10/32 on {53}"]);
}

#[test]
fn nameservers_of_the_own_pod_are_opened_except_loopback() {
    let nameservers = ["169.254.20.10", "127.0.0.53", "10.96.0.10", "fd00::a"];
    let known = facts([kube_dns(), service_cidr(&["10.96.0.0/16"])]);
    let facts = ClusterFacts { nameservers: nameservers.map(|ip| ip.parse().unwrap()).to_vec(), ..known };
    check_dns(&facts, "auto", &["kube-system on {53}", "10.96.0.10/32 169.254.20.10/32 on {53}"]);
    check_dns(&facts, "seed", &["kube-system on {53}"]);
}

#[test]
fn a_list_replaces_everything() {
    let facts = facts([kube_dns(), slice("kube-dns", 5353, &[])]);
    check_dns(&facts, "192.0.2.53,k8s-app=dns,port:54", &["192.0.2.53/32 k8s-app=dns on {54}"]);
}

#[test]
fn services_that_answer_no_dns_are_ignored() {
    let dns = || json!([{"name": "dns", "port": 53}]);
    let ignored = [
        service("kube-system", "metrics-server", "metrics-server", &["10.96.0.20"], dns()),
        service("tenant", "kube-dns", "kube-dns", &["10.96.0.21"], dns()),
        service("openshift-dns", "other", "", &["10.96.0.22"], dns()),
        service("kube-system", "coredns", "", &["10.96.0.23"], json!([{"name": "metrics", "port": 9153}])),
    ];
    assert_eq!(ignored, [None, None, None, None]);
    let headless = service("kube-system", "coredns", "", &["None"], dns());
    check_dns(&facts([headless]), "auto", &["kube-system on {53}"]);
}

#[test]
fn every_ready_endpoint_is_a_server_once_and_sorted() {
    let first = slice("kube-dns", 53, &[("192.0.2.2", "b", Some(true)), ("192.0.2.1", "a", None)]);
    let again = slice("kube-dns", 53, &[("192.0.2.2", "b", Some(true)), ("192.0.2.3", "c", Some(false))]);
    let by_hand = slice("kube-dns", 53, &[("192.0.2.9", "", None)]);
    let facts = facts([kube_dns(), first, again, by_hand, slice("other", 53, &[("192.0.2.4", "d", None)])]);
    check_servers(&facts, &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.9:53"]);
}

#[test]
fn a_dual_stack_pod_is_one_server() {
    let v6 = slice("kube-dns", 53, &[("2001:db8::1", "a", None), ("2001:db8::2", "b", None)]);
    let facts = facts([kube_dns(), v6, slice("kube-dns", 53, &[("192.0.2.1", "a", None)])]);
    check_servers(&facts, &["192.0.2.1:53", "[2001:db8::2]:53"]);
}

#[test]
fn the_guard_rail_holds_services_pods_nodes_and_denied_blocks() {
    let one =
        node(&["10.244.0.0/25"], &[("InternalIP", "192.0.2.10"), ("Hostname", "n"), ("ExternalIP", "203.0.113.1")]);
    let two = node(&["10.244.0.128/25", "fd00:10:244::/64"], &[("InternalIP", "192.0.2.11")]);
    let guard = cluster(&facts([service_cidr(&["10.96.0.0/16", "no block"]), one, two]), &flags("auto")).guard;
    assert_eq!(guard.pods, ["10.244.0.0/24".parse().unwrap(), "fd00:10:244::/64".parse::<IpNet>().unwrap()]);
    for (address, verdict) in [
        ("10.96.3.4", Verdict::ClusterLocal),
        ("10.244.0.200", Verdict::Guarded),
        ("192.0.2.11", Verdict::Guarded),
        ("203.0.113.1", Verdict::Guarded),
        ("198.51.100.1", Verdict::Guarded),
        ("203.0.113.2", Verdict::Fine),
    ] {
        assert_eq!(guard.judge(address.parse().unwrap()), verdict, "{address}");
    }
}

#[test]
fn auto_families_are_those_of_services_pods_and_internal_addresses() {
    let families = |all: &[Option<Fact>]| cluster(&facts(all.to_vec()), &flags("auto")).families;
    let (v4, v6) = (Families { v4: true, v6: false }, Families { v4: false, v6: true });
    assert_eq!(families(&[]), Families::BOTH);
    assert_eq!(families(&[service_cidr(&["10.96.0.0/16"])]), v4);
    assert_eq!(families(&[service_cidr(&["fd00::/112"])]), v6);
    assert_eq!(families(&[service_cidr(&["10.96.0.0/16"]), node(&["fd00:1::/64"], &[])]), Families::BOTH);
    assert_eq!(families(&[service_cidr(&["10.96.0.0/16"]), node(&[], &[("ExternalIP", "2001:db8::1")])]), v4);
    assert_eq!(families(&[node(&[], &[("InternalIP", "192.0.2.1")])]), v4);
}
