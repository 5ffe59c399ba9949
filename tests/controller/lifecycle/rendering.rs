//! What stands in the stored NetworkPolicy.

use serde_json::{Value, json};

use crate::world::revisions::Revisions;
use crate::world::{World, ips};

fn block(cidr: &str) -> Value {
    json!({"ipBlock": {"cidr": cidr}})
}

fn namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

/// The DNS path of a cluster without a DNS Service.
pub fn dns_rule() -> Value {
    json!({"to": [namespace("kube-system")], "ports": [{"protocol": "TCP", "port": 53}, {"protocol": "UDP", "port": 53}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_destination_with_its_ports_stands_in_the_networkpolicy_in_canonical_order() {
    let world = World::new().await;
    world.dns.set_host("a.example", &ips(&["192.0.2.2", "192.0.2.1", "2001:db8::1"]), 60);
    world.dns.set_host("b.example", &ips(&["192.0.2.1", "192.0.2.8"]), 60);
    let tenant = world.namespace("app").await;
    let revisions = Revisions::record(&world, &tenant).await;
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]},
        "destinations": [
            {"namespace": {"name": "shared", "podSelector": {"matchLabels": {"app": "db"}}}, "ports": [{"port": 5432}]},
            {"namespace": {"name": "shared"}},
            {"hostname": "b.example", "ports": [{"protocol": "UDP", "port": 3478, "endPort": 3481}, {"protocol": "TCP", "port": 443}]},
            {"hostname": "a.example"},
            {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25", "203.0.113.7/32"]},
            {"ip": "203.0.113.7"},
            {"ip": "198.51.100.9"},
            {"cidr": "198.51.100.0/24"},
            {"ip": "2001:db8::200"},
            {"cidr": "2001:db8:1::/48", "except": ["2001:db8:1:1::/64"], "ports": [{"protocol": "SCTP", "port": 36412}]},
            {"ip": "192.0.2.200", "ports": [{"port": 30000, "endPort": 32767}]},
            {"ip": "198.51.100.9", "ports": [{"protocol": "UDP", "port": 53}]}
        ],
        "namespaces": ["logging", "backup-tools"]
    });
    world.create_policy(&tenant, "web", spec).await;
    world.condition(&tenant, "web", "Ready", "True", "Ready").await;
    let expected = json!({
        "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]},
        "policyTypes": ["Egress"],
        "egress": [
            dns_rule(),
            {
                "to": [
                    block("192.0.2.1/32"), block("192.0.2.2/32"), block("198.51.100.0/24"),
                    {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32", "203.0.113.128/25"]}},
                    block("203.0.113.7/32"), block("2001:db8::1/128"), block("2001:db8::200/128")
                ],
                "ports": [{"protocol": "TCP", "port": 443}]
            },
            {
                "to": [block("192.0.2.1/32"), block("192.0.2.8/32")],
                "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 3478, "endPort": 3481}]
            },
            {"to": [block("192.0.2.200/32")], "ports": [{"protocol": "TCP", "port": 30000, "endPort": 32767}]},
            {"to": [block("198.51.100.9/32")], "ports": [{"protocol": "UDP", "port": 53}]},
            {
                "to": [{"ipBlock": {"cidr": "2001:db8:1::/48", "except": ["2001:db8:1:1::/64"]}}],
                "ports": [{"protocol": "SCTP", "port": 36412}]
            },
            {"to": [namespace("backup-tools"), namespace("logging")]},
            {"to": [namespace("shared")], "ports": [{"protocol": "TCP", "port": 443}]},
            {
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shared"}},
                    "podSelector": {"matchLabels": {"app": "db"}}
                }],
                "ports": [{"protocol": "TCP", "port": 5432}]
            }
        ]
    });
    // The default deny and the status are written side by side.
    world.is_there(&tenant, "default-deny-egress").await;
    let stored = world.spec(&tenant, "web").await;
    assert_eq!(stored, expected, "stored: {stored:#}");
    // First sight: one write of each object, with everything in it.
    let mut names: Vec<_> =
        revisions.up_to_now().await.into_iter().filter_map(|revision| revision.metadata.name).collect();
    names.sort();
    assert_eq!(names, ["default-deny-egress", "egress-web"]);
}
